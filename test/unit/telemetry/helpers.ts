// Shared by the telemetry tests: a seeded random source and short ways to name series.
import type { AttributesOf } from '../../../exporter/telemetry/catalogue.ts';
import type { SeriesStore } from '../../../exporter/telemetry/store.ts';

/** mulberry32: small, seeded, good enough to shuffle test cases. */
export function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296;
  };
}

/** Attributes of an edge whose client is called `client`. */
export function edge(client: string | number, port = '80'): AttributesOf<'knp.tcp.sent_bytes'> {
  return {
    reporter: 'client',
    client_workload: `client-${client}`,
    client_namespace: 'shop',
    client_kind: 'Deployment',
    server_workload: 'web',
    server_namespace: 'shop',
    server_kind: 'Deployment',
    server_port: port,
    transport: 'tcp',
  };
}

/** One collection in which `work` is what the sources do. */
export function collect(store: SeriesStore, nowMillis: number, work: () => void = () => {}): void {
  store.begin(nowMillis);
  work();
  store.settleNow();
}
