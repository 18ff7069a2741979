// The agent's metrics about naming: what identity knows, what it could not name, how its watches do. Added to the
// collector by measurement.ts, after the probes whose questions it counts.
import type { Identity } from '../identity/types.ts';
import type { Source } from '../telemetry/collector.ts';
import type { SeriesStore } from '../telemetry/store.ts';

export interface IdentitySourceOptions {
  readonly store: SeriesStore;
  readonly identity: Pick<Identity, 'stats'>;
}

/** Reads `identity.stats()` once per collection. */
export function createIdentitySource({ store, identity }: IdentitySourceOptions): Source {
  /** Totals of before, as the store adds. */
  const seen = new Map<string, number>();
  const growth = (key: string, total: number): number => {
    const before = seen.get(key) ?? 0;
    seen.set(key, total);
    return Math.max(0, total - before);
  };
  return {
    name: 'identity',
    collect() {
      const { known, unresolved, resources } = identity.stats();
      for (const [kind, count] of Object.entries(known)) {
        if (!(kind in resources)) store.gauge('knp.identity.entries', { kind }).set(count);
      }
      for (const [kind, total] of Object.entries(unresolved)) {
        store.counter('knp.identity.unresolved', { kind }).add(growth(`unresolved ${kind}`, total));
      }
      for (const [resource, { objects, synced, watchRestarts }] of Object.entries(resources)) {
        store.gauge('knp.kubernetes.objects', { resource }).set(objects);
        store.gauge('knp.kubernetes.synced', { resource }).set(synced ? 1 : 0);
        store
          .counter('knp.kubernetes.watch_restarts', { resource })
          .add(growth(`restarts ${resource}`, watchRestarts));
      }
    },
  };
}
