// The TCP probe in a network namespace that stands for a node: it has to see that one's connection tracking. Prints a
// line when it is attached and, for every line on its standard input, the edges of the table, read once more.
// Arguments as JSON: `keep`, the prefixes that the trie keeps exact; `self`, the process whose sockets are left out, which
// is how a server on another node is made: nobody on this host knows of it.
import { createInterface } from 'node:readline';
import { defaultConfig } from '../../../../exporter/config/schema.ts';
import { formatAddress } from '../../../../exporter/identity/address.ts';
import { createHostIdentity } from '../../../../exporter/identity/host.ts';
import { BpfLoader } from '../../../../exporter/kernel/loader.ts';
import { createTcpProbe } from '../../../../exporter/probes/tcp/index.ts';
import { SeriesStore } from '../../../../exporter/telemetry/store.ts';

const { keep, self } = JSON.parse(process.argv[2] as string) as { keep: string[]; self: number };
const identity = createHostIdentity({});
const ranges = keep.map((cidr) => ({ cidr, kind: 'exact' as const, id: 0 }));
const store = new SeriesStore();
const config = defaultConfig();
const probe = createTcpProbe({
  loader: new BpfLoader(),
  // Other tests may fill a table of the usual size meanwhile.
  config: { ...config, limits: { ...config.limits, edges: 65_536 } },
  identity: Object.assign(identity, { ranges: () => ranges }),
  store,
  self,
});

/** An edge as the test compares it. */
export interface ObservedEdge {
  readonly role: string;
  readonly owner: string;
  readonly peer: string;
  readonly dialled: string;
  readonly port: number;
  readonly reached: string;
  readonly reachedPort: number;
  readonly opened: number;
  readonly sent: number;
  readonly received: number;
  readonly refused: number;
}

const comm = (id: number) => Buffer.from(probe.table.owner(id)?.comm ?? []).toString();

function edges(now: number): ObservedEdge[] {
  store.begin(now);
  for (const _ of probe.source.steps(now));
  store.settleNow();
  const { ids, values, stride, count } = probe.table.read();
  const { layout } = probe.table;
  return [...ids.subarray(0, count)].map((id, index) => {
    const at = index * stride;
    const key = probe.table.key(id, values, at);
    const field = (path: string) => Number(values.readBigUInt64LE(at + layout.offset(path)));
    return {
      role: key.role,
      owner: comm(key.owner),
      peer: comm(key.peer),
      dialled: key.scope === 'exact' ? formatAddress(key.address) : key.scope,
      port: key.remotePort,
      reached: key.reachedPort === 0 ? '' : formatAddress(key.reached),
      reachedPort: key.reachedPort,
      opened: field('opened'),
      sent: field('tcp.sent_bytes'),
      received: field('tcp.received_bytes'),
      refused: field('tcp.connect_failures'),
    };
  });
}

const hooks = probe.loaded.choices.find(({ purpose }) => purpose === 'translated addresses');
console.log(JSON.stringify(hooks));
let now = Date.now();
for await (const _ of createInterface({ input: process.stdin })) {
  now += 1000;
  console.log(JSON.stringify({ edges: edges(now), lost: probe.table.lost() }));
}
probe.close();
