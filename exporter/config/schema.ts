// The one configuration schema. Validation, environment variables, flags, docs/configuration.md and the chart's values
// schema all derive from it; every other module imports only the `Config` type. The sections of the probes are theirs.
import * as z from 'zod';
import { PROBES, type SettingsSchemas } from '../probes/definitions.ts';
import {
  about,
  absolutePath,
  cidr,
  DETAILS,
  endpoint,
  flag,
  headers,
  hostPort,
  integer,
  label,
  number,
  oneOf,
  section,
  text,
} from './values.ts';

const otlpCommon = (signal: string) => ({
  enabled: flag(false, { description: `Send ${signal} over OTLP/gRPC.` }),
  endpoint: endpoint('http://localhost:4317', { description: 'The receiver; `https` means TLS.' }),
  insecure: flag(false, { description: 'Speak plain text even when the endpoint says `https`.' }),
  headers: headers({
    description: 'Headers sent with every export, such as a token. Values are never printed.',
    examples: [{ authorization: { env: 'OTLP_TOKEN' } }, { 'x-scope-orgid': 'team-a' }],
  }),
  timeout_seconds: number(10, 0.1, 300, { description: 'An export that takes longer failed, in seconds.' }),
});

const otlp = section('OpenTelemetry protocol over gRPC, beside the Prometheus endpoint.', {
  metrics: section('Metrics over OTLP.', {
    ...otlpCommon('metrics'),
    interval_seconds: number(60, 1, 3600, { description: 'Time between two exports in seconds.' }),
  }),
  traces: section('Spans over OTLP.', {
    ...otlpCommon('spans'),
    queue_spans: integer(8192, 1, 1_048_576, {
      description: 'Spans that wait for export; when full, new ones are dropped and counted.',
    }),
    batch_spans: integer(512, 1, 16_384, { description: 'Most spans in one export.' }),
    delay_millis: integer(1000, 1, 60_000, {
      description: 'An export starts at the latest this many milliseconds after its first span arrived.',
    }),
    concurrency: integer(4, 1, 64, { description: 'Exports in flight at once.' }),
    retry_seconds: integer(60, 0, 3600, {
      description:
        'How long an export that failed is tried again, in seconds, before its spans are dropped and counted.',
    }),
  }),
});

const identity = section('How local processes and remote addresses get their names.', {
  ranges: z
    .array(
      z.strictObject({
        name: label({ description: 'The workload name that addresses of this range get.' }),
        cidr: cidr({ description: 'The addresses.' }),
      }),
    )
    .max(1024)
    .default([])
    .meta(
      about({
        description: 'Named address ranges. Other addresses outside the cluster count as `external`.',
        allowed: 'a list of at most 1024 mappings {name, cidr}',
        examples: [[{ name: 'office', cidr: '192.0.2.0/24' }]],
      }),
    ),
  include_self: flag(false, { description: "Count the agent's own connections too." }),
  zones: flag(false, { description: 'Add the labels `client_zone` and `server_zone`.' }),
  proc_path: absolutePath('/proc', { description: "Where the host's proc file system is mounted." }),
  root_path: absolutePath('/', {
    description: "Where the host's root is mounted, for the names of containers.",
  }),
});

const kubernetes = section('Names from the Kubernetes API.', {
  enabled: z
    .union([z.literal('auto'), z.boolean()])
    .default('auto')
    .meta(
      about({
        description: '`auto`: when a service account or a kubeconfig is there.',
        allowed: 'auto, true or false',
        flag: 'kubernetes',
      }),
    ),
  node_name: text({ description: "This node's name in the cluster; empty: the host name." }),
  kubeconfig: text({
    description: 'Path of a kubeconfig file; empty: the service account, then `KUBECONFIG`.',
  }),
  remote: oneOf(['endpointslices', 'pods'], 'endpointslices', {
    description:
      'Where the names of pods on other nodes come from: EndpointSlices are cheap and know pods behind a Service; `pods` watches every pod of the cluster.',
  }),
});

const limits = section(
  'Bounds on memory. When one is reached the rest folds into `other`, sums stay exact.',
  {
    edges: integer(16_384, 64, 1_048_576, { description: 'Pairs of who talks to whom, in the kernel.' }),
    owners: integer(8192, 64, 1_048_576, { description: 'Local workloads and processes, in the kernel.' }),
    sockets: integer(65_536, 64, 16_777_216, {
      description:
        'Open connections whose two ends, both on this host, are joined, and as many that the host translates; when full, the oldest lose the name of their far end.',
    }),
    series_per_metric: integer(10_000, 10, 1_000_000, { description: 'Series of one metric.' }),
    series_idle_seconds: integer(300, 10, 86_400, {
      description: 'A series goes this many seconds after the last activity of its workload.',
    }),
  },
);

/** `probes.<name>`: the settings of every registered probe. */
const probeSections = Object.fromEntries(
  PROBES.map(({ name, settings }) => [name, settings]),
) as unknown as SettingsSchemas;

export const configSchema = z
  .strictObject({
    listen: hostPort('0.0.0.0:9464', {
      description: 'Address of `/metrics`, `/healthz` and `/readyz`. Port 0 takes any free one.',
      flag: 'listen',
    }),
    detail: oneOf(DETAILS, 'workload', {
      description: 'How finely the metrics name both ends.',
      flag: 'detail',
    }),
    log: section('Structured logs on standard error.', {
      level: oneOf(['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'], 'info', {
        description: 'The least severe level that is written.',
        flag: 'log-level',
      }),
      format: oneOf(['auto', 'json', 'pretty'], 'auto', {
        description: '`auto`: readable lines on a terminal, JSON elsewhere.',
        flag: 'log-format',
      }),
    }),
    limits,
    probes: section('What is measured.', probeSections),
    bpf: section('How BPF programs are run.', {
      stats: flag(true, {
        description:
          'Measure what each BPF program costs (`knp_bpf_program_seconds_total`). The kernel then takes two time stamps per run.',
      }),
    }),
    identity,
    kubernetes,
    otlp,
  })
  .meta({ title: 'KubeNetProbe configuration', description: 'Settings of `kubenetprobe`.' });

/** A checked configuration with every default filled in. */
export type Config = z.output<typeof configSchema>;
/** What a person may write: everything is optional. */
export type ConfigInput = z.input<typeof configSchema>;
export type Detail = Config['detail'];
/** A header value: the text itself, or where it is read from. */
export type HeaderValue = Config['otlp']['traces']['headers'][string];

/** The configuration when nothing is given. */
export function defaultConfig(): Config {
  return configSchema.parse({});
}
