// The core, with TCP's totals, in a network namespace that stands for a node: it has to see that one's connection tracking. Prints a
// line when it is attached and, for every line on its standard input, the edges of the table, read once more.
// Arguments as JSON: `keep`, the prefixes that the trie keeps exact; `self`, the process whose sockets are left out, which
// is how a server on another node is made: nobody on this host knows of it.
import { createInterface } from 'node:readline';
import { defaultConfig } from '../../../../exporter/config/schema.ts';
import { formatAddress } from '../../../../exporter/identity/address.ts';
import { createHostIdentity } from '../../../../exporter/identity/host.ts';
import { BpfLoader } from '../../../../exporter/kernel/loader.ts';
import { startCore } from '../../../../exporter/probes/core.ts';

const { keep, self } = JSON.parse(process.argv[2] as string) as { keep: string[]; self: number };
const identity = createHostIdentity({});
const ranges = keep.map((cidr) => ({ cidr, kind: 'exact' as const, id: 0 }));
const config = defaultConfig();
const core = startCore({
  loader: new BpfLoader(),
  // Other tests may fill a table of the usual size meanwhile.
  config: { ...config, limits: { ...config.limits, edges: 65_536 } },
  identity: Object.assign(identity, { ranges: () => ranges }),
  features: new Set(['tcp_totals']),
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

const comm = (id: number) => Buffer.from(core.table.owner(id)?.comm ?? []).toString();

function edges(now: number): ObservedEdge[] {
  for (const _ of core.source.steps(now));
  const { ids, values, stride, count } = core.table.read();
  const { layout } = core.table;
  const totals = core.loaded.btf.layout('tcp_totals');
  const counts = core.loaded.map('tcp_totals');
  return [...ids.subarray(0, count)].map((id, index) => {
    const at = index * stride;
    const key = core.table.key(id, values, at);
    const counted = counts.lookup(Buffer.from(Uint32Array.of(id).buffer));
    const total = (path: string) => Number(counted?.readBigUInt64LE(totals.offset(path)) ?? 0);
    return {
      role: key.role,
      owner: comm(key.owner),
      peer: comm(key.peer),
      dialled: key.scope === 'exact' ? formatAddress(key.address) : key.scope,
      port: key.remotePort,
      reached: key.reachedPort === 0 ? '' : formatAddress(key.reached),
      reachedPort: key.reachedPort,
      opened: Number(values.readBigUInt64LE(at + layout.offset('opened'))),
      sent: total('sent_bytes'),
      received: total('received_bytes'),
      refused: total('connect_failures'),
    };
  });
}

const hooks = core.loaded.choices.find(({ purpose }) => purpose === 'translated addresses');
console.log(JSON.stringify(hooks));
let now = Date.now();
for await (const _ of createInterface({ input: process.stdin })) {
  now += 1000;
  console.log(JSON.stringify({ edges: edges(now), lost: core.table.lost() }));
}
core.close();
