// Traffic of the attribution tests: the pods of a scenario call each other, in rounds or without end, and every call
// is noted under the names of its two ends. Pods are drained before they go, as an orderly shutdown does, so that the
// programs' counts are exact: a killed program could not say what it had read.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Cluster, Pod } from '../testbed/cluster.ts';
import type { CallOptions } from '../testbed/peers.ts';
import { parseScenario, type Scenario } from '../testbed/scenario.ts';
import { Ledger, type WorkloadName } from './attribution_ledger.ts';

/** Ports that no other test uses: the agent sees the whole machine. */
export const PORTS = { pod: 28461, service: 28460, host: 28462 } as const;

/** What the file of two hundred pods has not: host network, node ports, hairpin. */
const EXTRA = `
workloads:
  - name: edge
    namespace: ops
    kind: DaemonSet
    program: go
    hostNetwork: true
    port: ${PORTS.host}
    calls:
      - { to: gateway.shop, protocol: http, path: /edge, connections: 3, requests: 2, down: 700 }
      - { to: users.data, via: pods, connections: 4, up: 11, down: 13 }
  - name: tester
    namespace: shop
    program: go
    replicas: 2
    port: ${PORTS.pod}
    calls:
      - { to: gateway.shop, via: nodePort, protocol: http, path: /np, connections: 4, requests: 3, up: 5, down: 300 }
      - { to: edge.ops, protocol: http, path: /host, connections: 3, down: 100 }
      - { to: edge.ops, via: pods, connections: 2, requests: 2, up: 17, down: 19 }
      - { to: tester.shop, connections: 6, requests: 2, up: 23, down: 29 }
services:
  - { name: edge, namespace: ops, workload: edge, port: ${PORTS.service} }
  - { name: tester, namespace: shop, workload: tester, port: ${PORTS.service} }
`;

/** Workloads whose every pod is replaced or restarted have fewer pods, the others more: that keeps the test short. */
export const CHANGING = { rolled: ['data/catalog', 'shop/orders-db'], restarted: 'ops/sessions' } as const;
const MAX_CHANGING = 4;

/** The scenario of twenty workloads with this many pods, and the extra ones. */
export function attributionScenario(pods: number): Scenario {
  const path = join(import.meta.dirname, '../testbed/scenarios/two-hundred.yaml');
  const file = parseScenario(readFileSync(path, 'utf8'));
  const extra = parseScenario(EXTRA);
  // At least two: while one goes the other answers.
  const even = Math.max(2, Math.round(pods / file.workloads.length));
  const few = Math.min(even, MAX_CHANGING);
  const changing = new Set<string>([...CHANGING.rolled, CHANGING.restarted]);
  const most = file.workloads.length - changing.size;
  const many = Math.max(2, Math.ceil((pods - few * changing.size) / most));
  return {
    ...file,
    workloads: [
      ...file.workloads.map((each) => ({
        ...each,
        replicas: changing.has(`${each.namespace}/${each.name}`) ? few : many,
        port: PORTS.pod,
      })),
      ...extra.workloads,
    ],
    services: [
      ...file.services.map((each) => ({
        ...each,
        ...(each.name === 'gateway' && { type: 'NodePort' as const }),
        port: each.type === 'Headless' ? PORTS.pod : PORTS.service,
      })),
      ...extra.services,
    ],
  };
}

type Call = Scenario['workloads'][number]['calls'][number];

/** What the agent calls an end whose pod it has not heard of. */
const UNKNOWN: WorkloadName = { name: 'unknown', namespace: '', kind: 'Unknown' };

interface CallInFlight {
  readonly from: Pod;
  readonly host: string;
  /** Of the Service where its own address is dialled. */
  readonly service: string | undefined;
  readonly done: Promise<unknown>;
}

export class Traffic {
  /** All calls so far, as both reporters ought to have them. */
  readonly ledger = new Ledger();
  /** Calls that failed: there must be none, for nobody knows their bytes. */
  readonly failures: string[] = [];
  /** Ports as `server_port` has them. */
  readonly ports = new Set<string>(Object.values(PORTS).map(String));
  readonly #cluster: Cluster;
  readonly #calls: ReadonlyMap<string, readonly Call[]>;
  /** Service → workload. */
  readonly #backends = new Map<string, string>();
  readonly #names = new Map<string, WorkloadName & { readonly port: number }>();
  /** Pods whose names the agent cannot know yet. */
  readonly #nameless = new Set<string>();
  #blind = false;
  readonly #inFlight = new Set<CallInFlight>();
  readonly #leaving = new Set<string>();
  readonly #loops = new Map<string, Promise<void>>();
  #running = false;
  #supervisor: Promise<void> = Promise.resolve();

  constructor(cluster: Cluster, scenario: Scenario) {
    this.#cluster = cluster;
    this.#calls = new Map(
      scenario.workloads.map(({ namespace, name, calls }) => [`${namespace}/${name}`, calls]),
    );
    for (const { namespace, name, type, workload } of scenario.services) {
      this.#backends.set(`${namespace}/${name}`, `${namespace}/${workload}`);
      if (type === 'NodePort')
        this.ports.add(String(cluster.services.object(`${namespace}/${name}`).spec.ports[0].nodePort));
    }
    // Also the cluster's own rolling updates and scaling drain first.
    const deletePod = cluster.deletePod.bind(cluster);
    cluster.deletePod = async (pod) => {
      await this.drain(pod);
      await deletePod(pod);
    };
  }

  /** Every pod makes its calls once, all at the same time. */
  async round(): Promise<void> {
    await Promise.all(this.#cluster.pods().map((pod) => this.#once(pod)));
  }

  /** Calls without end, of pods that come later too. */
  start(): void {
    this.#running = true;
    this.#supervisor = this.#supervise();
  }

  async stop(): Promise<void> {
    this.#running = false;
    await this.#supervisor;
    await Promise.all(this.#loops.values());
    this.#loops.clear();
  }

  async #supervise(): Promise<void> {
    while (this.#running) {
      for (const pod of this.#cluster.pods())
        if (!this.#loops.has(pod.id)) this.#loops.set(pod.id, this.#loop(pod));
      await sleep(50);
    }
  }

  async #loop(pod: Pod): Promise<void> {
    while (this.#running && !this.#leaving.has(pod.id)) {
      await this.#once(pod);
      // Many pods take turns: the processors are for the pods' programs, the agent and the API server as well.
      await sleep(20 * this.#cluster.pods().length);
    }
  }

  /** Takes the pod out of its services and waits for its calls and for those that may have reached it. */
  async drain(pod: Pod): Promise<void> {
    this.#leaving.add(pod.id);
    pod.announced = false;
    await this.#cluster.services.sync(this.#cluster.pods());
    const concerned = [...this.#inFlight].filter(
      ({ from, host, service }) =>
        from === pod ||
        host === pod.network.address ||
        (service !== undefined && this.#backends.get(service) === pod.workload.id),
    );
    await Promise.all(concerned.map(({ done }) => done));
  }

  /** From now on the agent hears nothing of the API server: pods that come are unknown to it. */
  blind(): void {
    this.#learnNames();
    this.#blind = true;
  }

  /** The agent has caught up. Nobody may be calling. */
  sighted(): void {
    this.#blind = false;
    this.#nameless.clear();
  }

  /** The container dies and comes back, in the same pod. */
  async restart(pod: Pod): Promise<void> {
    await this.drain(pod);
    await this.#loops.get(pod.id);
    await this.#cluster.restartContainer(pod);
    await this.#cluster.services.sync(this.#cluster.pods());
    this.#leaving.delete(pod.id);
    this.#loops.delete(pod.id);
  }

  async #once(pod: Pod): Promise<void> {
    const calls = this.#calls.get(pod.workload.id) ?? [];
    await Promise.all(
      calls.flatMap((call) => {
        const { to: _, via: __, rate: ___, status: ____, connections, ...common } = call;
        const targets = this.#targets(call, pod);
        return targets.map(([host, port, service], index) => {
          const share =
            Math.floor(connections / targets.length) + (index < connections % targets.length ? 1 : 0);
          return share > 0 && this.call(pod, { ...common, host, port, connections: share }, service);
        });
      }),
    );
  }

  /** Addresses to dial: [host, port, Service where its own address is dialled]. */
  #targets({ to, via }: Call, caller: Pod): [string, number, string?][] {
    const [name, namespace] = to.split('.');
    const id = `${namespace}/${name}`;
    if (via === 'pods') {
      const pods = (this.#cluster.workloads.get(id)?.pods ?? []).filter(({ announced }) => announced);
      return pods.map(({ network, workload }) => [network.address, workload.spec.port ?? 0]);
    }
    const { spec } = this.#cluster.services.object(id);
    if (via === 'nodePort') return [[caller.node.address, spec.ports[0].nodePort, id]];
    if (spec.clusterIP !== 'None') return [[spec.clusterIP, spec.ports[0].port, id]];
    // A headless Service has no address: its pods' own are dialled.
    return this.#cluster.services.endpoints(id).map((endpoint) => {
      const [host = '', port] = endpoint.split(':');
      return [host, Number(port)];
    });
  }

  /** Makes a call and notes it. */
  async call(from: Pod, options: CallOptions, service?: string): Promise<void> {
    this.#learnNames();
    const calling = this.#cluster.call(from, options, service);
    const inFlight = { from, host: options.host, service, done: calling };
    this.#inFlight.add(inFlight);
    try {
      const results = await calling;
      this.#learnNames();
      for (const [server, counts] of Object.entries(results)) {
        const [client, served] = [this.#nameOf(from.id), this.#nameOf(server)];
        if (counts.failed > 0 || client === undefined || served === undefined) {
          this.failures.push(
            `${from.id} → ${options.host}:${options.port} ${server} ${JSON.stringify(counts)}`,
          );
          continue;
        }
        const requests = options.protocol === 'http' ? counts.requests : 0;
        const { connections, sent, received } = counts;
        const name = service?.split('/')[1] ?? '';
        const ends = { client, server: served };
        this.ledger.add(
          { ...ends, reporter: 'client', service: name, port: options.port },
          { connections, requests, sent, received },
        );
        this.ledger.add(
          { ...ends, reporter: 'server', service: '', port: served.port },
          { connections, requests, sent: received, received: sent },
        );
      }
    } finally {
      this.#inFlight.delete(inFlight);
    }
  }

  #nameOf(pod: string): (WorkloadName & { readonly port: number }) | undefined {
    const name = this.#names.get(pod);
    return name && this.#nameless.has(pod) ? { ...UNKNOWN, port: name.port } : name;
  }

  #learnNames(): void {
    for (const { id, workload } of this.#cluster.pods()) {
      if (this.#names.has(id)) continue;
      if (this.#blind) this.#nameless.add(id);
      const { name, namespace, kind, port = 0 } = workload.spec;
      // A bare pod is a workload of its own.
      const pod = id.slice(id.indexOf('/') + 1);
      this.#names.set(id, { name: kind === 'Pod' ? pod : name, namespace, kind, port });
    }
  }
}
