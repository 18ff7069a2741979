// The watches that an agent keeps: pods (of its own node, or all), services, EndpointSlices and nodes. Started by
// kubernetes_identity.ts.
import type { ResourceStats } from '../types.ts';
import type { Cluster } from './cluster.ts';
import type { Connection } from './connection.ts';
import { projectEndpointSlice, projectNode, projectPod, projectService } from './objects.ts';
import { Reflector, type ReflectorCounters, type ReflectorOptions } from './reflector.ts';

export type { ReflectorOptions } from './reflector.ts';

export interface WatcherOptions {
  readonly connection: Connection;
  /** Only pods of this node; undefined: all. */
  readonly nodeName: string | undefined;
  readonly cluster: Cluster;
  readonly onProblem: (resource: string, problem: string | undefined) => void;
  /** Every kind was listed. */
  readonly onSynced: () => void;
  readonly tuning: Pick<ReflectorOptions<never>, 'backoff' | 'pageSize' | 'watchSeconds' | 'random'>;
}

export interface ReflectorSet {
  readonly synced: boolean;
  /** Sums over all kinds: `lists`, `pages`, `watches`, `events`, `bytes`, … */
  counters(): Record<keyof ReflectorCounters, number>;
  /** @param objects how many of each kind there are */
  resources(objects: Readonly<Record<string, number>>): Record<string, ResourceStats>;
  stop(): Promise<void>;
}

export function startReflectors(options: WatcherOptions): ReflectorSet {
  const { connection, nodeName, cluster, onProblem, onSynced, tuning } = options;
  const { backoff, pageSize, watchSeconds, random } = tuning;
  const common = (resource: string) => ({
    resource,
    connection,
    onProblem: (problem: string | undefined) => onProblem(resource, problem),
    onSynced: () => {
      if (reflectors.every((reflector) => reflector.synced)) onSynced();
    },
    ...(backoff && { backoff }),
    ...(pageSize && { pageSize }),
    ...(watchSeconds && { watchSeconds }),
    ...(random && { random }),
  });
  const reflectors = [
    new Reflector({ ...common('nodes'), path: '/api/v1/nodes', project: projectNode, sink: cluster.nodes }),
    new Reflector({
      ...common('pods'),
      path: '/api/v1/pods',
      project: projectPod,
      sink: cluster.pods,
      ...(nodeName === undefined ? {} : { query: { fieldSelector: `spec.nodeName=${nodeName}` } }),
    }),
    new Reflector({
      ...common('services'),
      path: '/api/v1/services',
      project: projectService,
      sink: cluster.services,
    }),
    new Reflector({
      ...common('endpointslices'),
      path: '/apis/discovery.k8s.io/v1/endpointslices',
      project: projectEndpointSlice,
      sink: cluster.slices,
    }),
  ];
  for (const reflector of reflectors) reflector.start();
  return {
    get synced() {
      return reflectors.every((reflector) => reflector.synced);
    },
    counters() {
      const [first, ...rest] = reflectors.map((reflector) => reflector.counters);
      const sum = { ...(first as ReflectorCounters) };
      for (const counters of rest) {
        for (const name of Object.keys(sum) as (keyof ReflectorCounters)[]) sum[name] += counters[name];
      }
      return sum;
    },
    resources(objects) {
      return Object.fromEntries(
        reflectors.map(({ resource, synced, counters }) => [
          resource,
          { objects: objects[resource] ?? 0, synced, watchRestarts: Math.max(0, counters.watches - 1) },
        ]),
      );
    },
    async stop() {
      await Promise.all(reflectors.map((reflector) => reflector.stop()));
    },
  };
}
