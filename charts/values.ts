// The chart's values: one schema from which generate.ts writes values.yaml, values.schema.json and the chart's
// README. `config` is the agent's own configuration and takes its schema from exporter/config.
import { z } from 'zod';
import { DEFAULT_SETTINGS, THRESHOLDS } from '../alerts/settings.ts';

const text = (byDefault: string, description: string) => z.string().default(byDefault).meta({ description });
const flag = (byDefault: boolean, description: string) =>
  z.boolean().default(byDefault).meta({ description });
const mapping = (description: string) => z.record(z.string(), z.string()).default({}).meta({ description });
/** Kubernetes' own structures: the API server validates them, and the chart passes them on as they are. */
const passedOn = (byDefault: Record<string, unknown>, description: string) =>
  z.record(z.string(), z.unknown()).default(byDefault).meta({ description });
const listOf = (description: string, byDefault: Record<string, unknown>[] = []) =>
  z.array(z.record(z.string(), z.unknown())).default(byDefault).meta({ description });
const section = <Shape extends z.ZodRawShape>(description: string, shape: Shape) =>
  z
    .strictObject(shape)
    .prefault({} as never)
    .meta({ description });

const monitor = (kind: string) => ({
  enabled: flag(false, `Create a ${kind} for the Prometheus operator.`),
  namespace: text('', "Its namespace; empty: the release's."),
  labels: mapping('Labels by which your Prometheus selects it.'),
  interval: text('15s', 'Time between scrapes.'),
  scrapeTimeout: text('10s', 'A scrape that takes longer failed.'),
});

export const valuesSchema = z.strictObject({
  nameOverride: text('', "The name in the objects' labels; empty: the chart's."),
  fullnameOverride: text('', "The objects' name; empty: from the release and the chart."),
  image: section('The agent image.', {
    repository: text('kubenetprobe', 'With the registry, if it is not the default one.'),
    tag: text('', "Empty: the chart's appVersion."),
    digest: text('', 'Such as `sha256:…`; wins over the tag.'),
    pullPolicy: z
      .enum(['Always', 'IfNotPresent', 'Never'])
      .default('IfNotPresent')
      .meta({ description: 'As in a pod.' }),
  }),
  imagePullSecrets: listOf('Secrets for a private registry, `[{name: …}]`.'),
  config: passedOn(
    { bpf: { stats: false } },
    "The agent's configuration; every setting is in docs/configuration.md, and all are checked at install. BPF statistics need the capability SYS_ADMIN, which the agent does without.",
  ),
  env: listOf('Further environment variables, such as a token from a Secret for `config.otlp.*.headers`.'),
  hostNetwork: flag(
    true,
    "Run in the node's network namespace. Connection tracking is kept there: without it the pod behind a Service is not known when the node translates addresses. False also makes `networkPolicy` effective.",
  ),
  capabilities: z.array(z.string()).default(['BPF', 'PERFMON', 'NET_ADMIN']).meta({
    description:
      'All that the agent may do beyond an ordinary process; docs/security.md says what each is for.',
  }),
  resources: passedOn(
    { requests: { cpu: '50m', memory: '128Mi' }, limits: { memory: '512Mi' } },
    'A CPU limit would make the agent miss scrapes on a busy node.',
  ),
  priorityClassName: text('system-node-critical', 'Empty: none.'),
  nodeSelector: passedOn({ 'kubernetes.io/os': 'linux' }, 'Nodes to run on.'),
  tolerations: listOf('Every node by default, tainted or not.', [{ operator: 'Exists' }]),
  affinity: passedOn({}, 'As in a pod.'),
  updateStrategy: passedOn(
    { type: 'RollingUpdate', rollingUpdate: { maxUnavailable: '10%' } },
    'How nodes get a new version.',
  ),
  terminationGracePeriodSeconds: z
    .int()
    .min(0)
    .default(15)
    .meta({ description: 'Time for the last export.' }),
  podAnnotations: mapping('Annotations of the pods.'),
  podLabels: mapping('Labels of the pods.'),
  extraVolumes: listOf('Further volumes, such as a Secret with a CA.'),
  extraVolumeMounts: listOf('Where they are mounted.'),
  serviceAccount: section('Whom the agent is to the API server.', {
    create: flag(true, 'Create it.'),
    name: text('', "Empty: the objects' name."),
    annotations: mapping('Annotations of it.'),
  }),
  rbac: section('What it may read there.', {
    create: flag(
      true,
      'Create the ClusterRole (read pods, services, nodes and endpointslices) and its binding.',
    ),
  }),
  service: section('A headless Service before all agents, for scrapers that discover Services.', {
    enabled: flag(true, 'Create it.'),
    annotations: mapping('Annotations of it.'),
  }),
  podMonitor: section(
    'For the Prometheus operator; one of the two monitors is enough.',
    monitor('PodMonitor'),
  ),
  serviceMonitor: section('For the Prometheus operator.', monitor('ServiceMonitor')),
  prometheusRule: section('The alerts that the project ships.', {
    enabled: flag(false, 'Create PrometheusRules for the Prometheus operator.'),
    namespace: text('', "Their namespace; empty: the release's."),
    labels: mapping('Labels by which your Prometheus selects them.'),
    runbooks: text(DEFAULT_SETTINGS.runbooks, "Where the runbooks are; an alert's name and `.md` follow."),
    thresholds: section(
      'What the alerts compare with.',
      Object.fromEntries(
        Object.entries(THRESHOLDS).map(([name, { value, about }]) => [
          name,
          z.number().min(0).default(value).meta({ description: about }),
        ]),
      ),
    ),
  }),
  dashboards: section('The dashboards that the project ships.', {
    enabled: flag(false, "Create ConfigMaps for Grafana's dashboard sidecar."),
    namespace: text('', "Their namespace; empty: the release's."),
    labels: z
      .record(z.string(), z.string())
      .default({ grafana_dashboard: '1' })
      .meta({ description: 'Labels by which the sidecar selects them.' }),
    annotations: mapping('Annotations of them, such as the folder.'),
  }),
  networkPolicy: section(
    'Limits who may scrape, and where the agent may connect to. Host network pods ignore it.',
    {
      enabled: flag(false, 'Create it. Only with `hostNetwork: false`.'),
      from: listOf('Who may scrape (NetworkPolicy peers); empty: everybody.'),
      apiServerPorts: z.array(z.int()).default([443, 6443]).meta({ description: 'Ports of the API server.' }),
      extraEgress: listOf('Further egress rules, such as to an OpenTelemetry collector.'),
    },
  ),
  openshift: section('Red Hat OpenShift.', {
    enabled: flag(
      false,
      'Create a SecurityContextConstraints object and run with the SELinux type spc_t: the usual one may not use bpf().',
    ),
  }),
});
