// Attributes (labels) that metrics of several parts carry: name, meaning, and the allowed values where the set is closed.
// What only one probe's metrics carry stands in that probe's metrics.ts; catalogue.ts has all of them.

/** One attribute. Names follow the OpenTelemetry semantic conventions where these have one. */
export interface AttributeDefinition {
  readonly description: string;
  /** The closed set of values; left out, the attribute is open and becomes `other` when series fold. */
  readonly values?: readonly string[];
  /** Sent over OTLP as an integer (the conventions say so); text in the Prometheus exposition. */
  readonly type?: 'int';
  /** May be left out of a series. */
  readonly optional?: true;
  /** Only there when the configuration asks for it. */
  readonly optIn?: true;
  /** Open, but kept when a series folds into `other`: few values, and the fold is useless without it. */
  readonly keepWhenFolded?: true;
}

/** Keeps the literal types of an attribute table. */
export function defineAttributes<const T extends Readonly<Record<string, AttributeDefinition>>>(table: T): T {
  return table;
}

const text = (description: string) => ({ description }) as const;
const optional = (description: string) => ({ description, optional: true }) as const;
const optIn = (description: string) => ({ description, optional: true, optIn: true }) as const;
const oneOf = <const V extends readonly string[]>(description: string, values: V) =>
  ({ description, values }) as const;

/** The common table: append only, never rename (a rename breaks every saved query). */
export const COMMON_ATTRIBUTES = {
  reporter: oneOf(
    'Which side measured it. A connection between two observed ends gives one series per side.',
    ['client', 'server'],
  ),
  client_workload: text('Workload, systemd unit, container or process that opened the connection.'),
  client_namespace: text('Namespace of the client; empty outside Kubernetes.'),
  client_kind: text(
    'Kind of the client: Deployment, StatefulSet, DaemonSet, Job, Pod, Node, Unit, Process, ...',
  ),
  server_workload: text('Workload, systemd unit, container or process that accepted the connection.'),
  server_namespace: text('Namespace of the server; empty outside Kubernetes.'),
  server_kind: text('Kind of the server, as `client_kind`.'),
  server_service: optional('Service that the client dialled, where it dialled one.'),
  server_port: text("The server's port."),
  transport: oneOf('Transport protocol.', ['tcp', 'udp']),
  client_zone: optIn('Zone of the client (opt-in).'),
  server_zone: optIn('Zone of the server (opt-in).'),
  client_pod: optIn('Pod of the client (`detail: pod`).'),
  server_pod: optIn('Pod of the server (`detail: pod`).'),
  reason: text('Why it failed or was given up.'),
  direction: oneOf('Seen from the reporting side.', ['sent', 'received']),
  by: oneOf('What held the sender back: the window of the receiver, or the send buffer of its own socket.', [
    'receive_window',
    'send_buffer',
  ]),
  'url.scheme': { description: 'Scheme of the request.', values: ['http', 'https'], optional: true },
  'network.protocol.version': {
    description: 'Version of HTTP.',
    optional: true,
    keepWhenFolded: true,
  },
  'error.type': {
    description: 'Status code of a failed request, or why there was no response.',
    optional: true,
    keepWhenFolded: true,
  },
  client: text('Client of a service graph edge.'),
  server: text('Server of a service graph edge.'),
  client_service_namespace: optional('Namespace of the client of a service graph edge.'),
  server_service_namespace: optional('Namespace of the server of a service graph edge.'),
  connection_type: {
    description:
      'What kind of edge it is, as Tempo has it; left out for plain requests between two workloads.',
    values: ['virtual_node', 'database', 'messaging_system'],
    optional: true,
  },
  stage: text('Where it was lost.'),
  program: text('BPF program.'),
  map: text('BPF map.'),
  probe: text('Probe.'),
  hook: text('Hook in use.'),
  source: text('Source that a collection reads.'),
  metric: text('Metric, by its Prometheus name.'),
  mode: oneOf('Where the time was spent.', ['user', 'system']),
  format: oneOf('Exposition format.', ['text', 'openmetrics']),
  outcome: text('How it ended.'),
  signal: oneOf('OpenTelemetry signal.', ['metrics', 'traces']),
  version: text('Version of the agent.'),
  runtime_version: text('Version of Node.js.'),
  kernel_release: text('Release of the running kernel.'),
  arch: text('Processor architecture.'),
  kind: text('Kind of the object.'),
  resource: text('Kubernetes resource that is watched.'),
} as const satisfies Record<string, AttributeDefinition>;

/** Name of an attribute of the common table, as in OTLP. */
export type CommonAttributeName = keyof typeof COMMON_ATTRIBUTES;

const edgeBase = [
  'reporter',
  'client_workload',
  'client_namespace',
  'client_kind',
  'server_workload',
  'server_namespace',
  'server_kind',
  'server_service',
  'server_port',
  'transport',
] as const;
const edgeOptIn = ['client_zone', 'server_zone', 'client_pod', 'server_pod'] as const;

/** Attributes of every metric about a pair of workloads. */
export const EDGE = [...edgeBase, ...edgeOptIn] as const satisfies readonly CommonAttributeName[];

/** Attributes of a listening socket: there is no client yet, and only the server can report. */
export const LISTENER = [
  'server_workload',
  'server_namespace',
  'server_kind',
  'server_port',
  'transport',
  'server_zone',
  'server_pod',
] as const satisfies readonly CommonAttributeName[];
