// Runs in a network namespace of its own with the pair knpt0 - knpt1: attaches at every hook there, sends datagrams and
// connects, prints how often each program was hit.
import { createSocket } from 'node:dgram';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { openObject } from '../../../../exporter/kernel/native.ts';

const [objectPath, count] = process.argv.slice(2) as [string, string];
const interfaceIndex = (name: string) => Number(readFileSync(`/sys/class/net/${name}/ifindex`, 'utf8'));
const names = ['knpt_tc_egress', 'knpt_tc_ingress', 'knpt_xdp', 'knpt_sk_lookup'];
const probe = openObject(objectPath);
const all = probe.programs.map((p) => p.name);
probe.close();
const object = openObject(objectPath, {
  autoload: Object.fromEntries(all.map((n) => [n, names.includes(n)])),
});
object.load();

const hits = (key: number) => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(key);
  return Number(object.map('hits').lookup(bytes)?.readBigUInt64LE(0));
};

async function send(): Promise<void> {
  const socket = createSocket('udp4');
  for (let i = 0; i < Number(count); i++) {
    await new Promise((resolve) => socket.send('x', 40001, '10.99.0.2', resolve));
  }
  socket.close();
}

/** Sends with a link open and after it was closed; how often the program ran in each case. */
async function measure(key: number, attach: () => { close(): void; info(): { type: string } | undefined }) {
  const before = hits(key);
  const link = attach();
  const { type } = link.info() ?? { type: 'none' };
  await send();
  const open = hits(key) - before;
  link.close();
  link.close();
  await send();
  return { type, open, closed: hits(key) - before - open };
}

const [near, far] = [interfaceIndex('knpt0'), interfaceIndex('knpt1')];
const results: Record<string, unknown> = {};
const attempt = async (name: string, run: () => Promise<unknown>) => {
  results[name] = await run().catch((error) => ({ error: String(error), code: error.code }));
};
const egress = object.program('knpt_tc_egress');
const ingress = object.program('knpt_tc_ingress');
await attempt('tcx_egress', () => measure(8, () => egress.attachTcx({ ifindex: near, direction: 'egress' })));
await attempt('tcx_ingress', () =>
  measure(9, () => ingress.attachTcx({ ifindex: far, direction: 'ingress' })),
);
const filter = { handle: 77, priority: 1234 };
await attempt('tc_egress', () =>
  measure(8, () => egress.attachTc({ ifindex: near, direction: 'egress', ...filter })),
);
await attempt('tc_ingress', () =>
  measure(9, () => ingress.attachTc({ ifindex: far, direction: 'ingress', ...filter })),
);
await attempt('tc_replaces', () =>
  measure(8, () => {
    egress.attachTc({ ifindex: near, direction: 'egress', ...filter }); // as left behind by a killed agent
    return egress.attachTc({ ifindex: near, direction: 'egress', ...filter });
  }),
);
const xdp = object.program('knpt_xdp');
await attempt('xdp_generic', () => measure(10, () => xdp.attachXdp({ ifindex: far, mode: 'generic' })));
await attempt('xdp_driver', () => measure(10, () => xdp.attachXdp({ ifindex: far, mode: 'driver' })));
await attempt('sk_lookup', async () => {
  const server = createServer((socket) => socket.end()).listen(40002, '127.0.0.1');
  await once(server, 'listening');
  const link = object.program('knpt_sk_lookup').attachNetns();
  const { type } = link.info() ?? { type: 'none' };
  const dial = async () => {
    const socket = connect(40002, '127.0.0.1').resume();
    await once(socket, 'close');
  };
  for (let i = 0; i < Number(count); i++) await dial();
  const open = hits(12);
  link.close();
  await dial();
  server.close();
  return { type, open, closed: hits(12) - open };
});
object.close();
process.stdout.write(JSON.stringify(results));
