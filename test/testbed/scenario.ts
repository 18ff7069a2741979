// Scenario files: a cluster, its workloads and services, and who calls whom, in YAML. Tests and cli.ts run them;
// examples are in scenarios/.
import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { Cluster, type External, type Pod } from './cluster.ts';
import { workloadKinds } from './objects.ts';
import type { CallOptions } from './peers.ts';
import type { Truth } from './truth.ts';

const name = z.string().regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/);
const port = z.int().min(1).max(65535);
const count = z.int().min(0);

const callSchema = z.strictObject({
  /** `service.namespace`, `workload.namespace` with `via: pods`, or an external host's name with `via: external`. */
  to: z.string(),
  via: z.enum(['clusterIP', 'nodePort', 'externalIP', 'pods', 'external']).default('clusterIP'),
  protocol: z.enum(['tcp', 'http']).default('tcp'),
  path: z.string().startsWith('/').default('/'),
  status: z.int().min(200).max(599).optional(),
  /** Of each replica, in each round. */
  connections: count.default(1),
  /** On each connection. */
  requests: count.default(1),
  /** Bytes of the body in each direction. */
  up: count.default(0),
  down: count.default(0),
  /** At most this many requests a second, for each replica. */
  rate: z.number().positive().optional(),
});

const peerSchema = {
  name,
  program: z.enum(['node', 'python', 'go', 'java', 'nginx']),
  port: port.optional(),
  calls: z.array(callSchema).default([]),
};

const scenarioSchema = z.strictObject({
  cluster: z
    .strictObject({
      nodes: z
        .array(z.strictObject({ name, zone: z.string().optional() }))
        .min(1)
        .optional(),
      proxyMode: z.enum(['iptables', 'nftables']).optional(),
      dualStack: z.boolean().optional(),
      cgroupDriver: z.enum(['systemd', 'cgroupfs']).optional(),
      cgroupVersion: z.enum(['v1', 'v2', 'hybrid']).optional(),
      runtime: z.enum(['containerd', 'cri-o', 'cri-o-crun', 'docker']).optional(),
      kubeletRoot: z.string().optional(),
    })
    .default({}),
  workloads: z.array(
    z.strictObject({
      ...peerSchema,
      namespace: name.default('default'),
      kind: z.enum(workloadKinds).default('Deployment'),
      replicas: count.default(1),
      node: name.optional(),
      hostNetwork: z.boolean().default(false),
      qosClass: z.enum(['Guaranteed', 'Burstable', 'BestEffort']).default('Burstable'),
    }),
  ),
  services: z
    .array(
      z.strictObject({
        name,
        namespace: name.default('default'),
        workload: name,
        type: z.enum(['ClusterIP', 'NodePort', 'Headless']).default('ClusterIP'),
        port,
        externalIPs: z.array(z.ipv4()).optional(),
      }),
    )
    .default([]),
  external: z.array(z.strictObject(peerSchema)).default([]),
});

export type Scenario = z.infer<typeof scenarioSchema>;
type Call = z.infer<typeof callSchema>;

export interface RunningScenario {
  readonly cluster: Cluster;
  readonly scenario: Scenario;
  /** Every workload makes its calls once, all at the same time; then every server is asked what it counted. */
  round(): Promise<Truth>;
  stop(): Promise<void>;
}

/** Parses a scenario's text; errors name the field. */
export function parseScenario(text: string): Scenario {
  const parsed = scenarioSchema.safeParse(parse(text));
  if (!parsed.success) throw new Error(`scenario: ${z.prettifyError(parsed.error)}`);
  return parsed.data;
}

/** Brings up what the file describes. Nobody calls anybody before `round`. */
export async function runScenario(path: string): Promise<RunningScenario> {
  return startScenario(parseScenario(readFileSync(path, 'utf8')));
}

/** As runScenario, from a parsed scenario. */
export async function startScenario(scenario: Scenario): Promise<RunningScenario> {
  const cluster = await Cluster.start(withoutUndefined(scenario.cluster));
  try {
    await build(cluster, scenario);
  } catch (error) {
    await cluster.stop();
    throw error;
  }
  return {
    cluster,
    scenario,
    round: async () => {
      await round(cluster, scenario);
      return cluster.settle();
    },
    stop: () => cluster.stop(),
  };
}

function withoutUndefined<T extends object>(object: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  const entries = Object.entries(object).filter(([, value]) => value !== undefined);
  return Object.fromEntries(entries) as { [K in keyof T]: Exclude<T[K], undefined> };
}

async function build(cluster: Cluster, scenario: Scenario): Promise<void> {
  for (const { calls: _, ...workload } of scenario.workloads) await cluster.createWorkload(workload);
  for (const { externalIPs, ...service } of scenario.services) {
    const workload = scenario.workloads.find(
      (each) => each.namespace === service.namespace && each.name === service.workload,
    );
    if (!workload?.port)
      throw new Error(`Service ${service.name}: workload ${service.workload} serves no port`);
    await cluster.createService({ ...service, targetPort: workload.port, externalIps: externalIPs });
  }
  for (const external of scenario.external)
    await cluster.addExternal(external.name, external.program, external.port);
}

async function round(cluster: Cluster, scenario: Scenario): Promise<void> {
  const callers: [Pod | External, Call[]][] = [];
  for (const { namespace, name, calls } of scenario.workloads) {
    for (const pod of cluster.workloads.get(`${namespace}/${name}`)?.pods ?? []) callers.push([pod, calls]);
  }
  for (const { name, calls } of scenario.external) {
    const external = cluster.externals.get(name);
    if (external) callers.push([external, calls]);
  }
  await Promise.all(
    callers.flatMap(([caller, calls]) => calls.flatMap((call) => callsOf(cluster, call, caller))),
  );
}

/** One peer call for each address that is dialled. */
function callsOf(cluster: Cluster, call: Call, caller: Pod | External): Promise<unknown>[] {
  const { to, via, rate, connections, status, ...common } = call;
  const pauseMillis = rate ? Math.round(1000 / rate) : 0;
  const targets = targetsOf(cluster, call, caller);
  return targets.map(([host, port, service], index) => {
    const share = Math.floor(connections / targets.length) + (index < connections % targets.length ? 1 : 0);
    const options: CallOptions = {
      ...common,
      host,
      port,
      connections: share,
      pauseMillis,
      ...(status && { status }),
    };
    return cluster.call(caller, options, service);
  });
}

/** Addresses to dial: [host, port, Service if one was dialled]. */
function targetsOf(cluster: Cluster, { to, via }: Call, caller: Pod | External): [string, number, string?][] {
  if (via === 'external') {
    const external = cluster.externals.get(to);
    if (!external?.port) throw new Error(`no external host ${to} that serves`);
    return [[external.address, external.port]];
  }
  const [name, namespace = 'default'] = to.split('.');
  const id = `${namespace}/${name}`;
  if (via === 'pods') {
    const pods = cluster.workloads.get(id)?.pods;
    if (!pods) throw new Error(`no workload ${to}`);
    return pods.map((pod) => [pod.network.address, pod.workload.spec.port ?? 0]);
  }
  const { spec } = cluster.services.object(id);
  const { port, nodePort } = spec.ports[0];
  if (via === 'nodePort') {
    const nodes = [...cluster.network.nodes.values()];
    // From a pod: its own node, as node-local agents do; from outside: any, here the last.
    const node = 'node' in caller ? caller.node : nodes.at(-1);
    if (!nodePort || !node) throw new Error(`Service ${to} has no node port`);
    return [[node.address, nodePort, id]];
  }
  if (via === 'externalIP') {
    if (!spec.externalIPs?.[0]) throw new Error(`Service ${to} has no external address`);
    return [[spec.externalIPs[0], port, id]];
  }
  if (spec.clusterIP === 'None') {
    return cluster.services.endpoints(id).map((endpoint) => {
      const [host = '', endpointPort] = endpoint.split(':');
      return [host, Number(endpointPort), id];
    });
  }
  return [[spec.clusterIP, port, id]];
}
