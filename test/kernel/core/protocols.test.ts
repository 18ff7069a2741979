// The core calls the protocol of a stream: at both steps of the end of a connection, and at every walk, whichever iterator
// this kernel allows.
import { execFileSync } from 'node:child_process';
import { copyFileSync, mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { defaultConfig } from '../../../exporter/config/schema.ts';
import { createHostIdentity } from '../../../exporter/identity/host.ts';
import { CORE_MAPS } from '../../../exporter/kernel/core.ts';
import { BpfLoader } from '../../../exporter/kernel/loader.ts';
import { startCore } from '../../../exporter/probes/core.ts';
import { buildPeer, endPeers, startPeer } from '../tcp/harness.ts';

const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const OUT = `${ROOT}build/test/core/`;
const PORT = 21961;
const CLAIMED = 7;
const [FIN_WAIT1, CLOSE, LAST_ACK, WALK] = [4, 7, 9, 0];

beforeAll(() => {
  buildPeer();
  mkdirSync(OUT, { recursive: true });
  const flags = execFileSync('make', ['-s', 'bpf-flags'], { cwd: ROOT, encoding: 'utf8' }).trim().split(' ');
  const source = 'test/kernel/core/programs/protocol.bpf.c';
  execFileSync('clang', [...flags, '-c', source, '-o', `${OUT}protocol.bpf.o`], { cwd: ROOT });
  copyFileSync(`${ROOT}build/bpf/core.bpf.o`, `${OUT}core.bpf.o`);
});
afterEach(endPeers);

test.each([true, false])('a protocol is told of ends and walks; TCP probe on: %s', async (tcpTotals) => {
  const loader = new BpfLoader({ directory: new URL(`file://${OUT}`) });
  try {
    const core = startCore({
      loader,
      config: defaultConfig(),
      identity: createHostIdentity({}),
      features: new Set(tcpTotals ? ['tcp_totals'] : []),
    });
    const walks = core.loaded.links.has('core_walk')
      ? { array: 'stream_walk_programs', index: CLAIMED, program: 'knpt_walk' }
      : { array: 'stream_walk_file_programs', index: CLAIMED, program: 'knpt_walk_files' };
    const protocol = loader.load({
      object: 'protocol',
      programs: [{ purpose: 'claim', alternatives: [{ program: 'knpt_claim' }] }],
      rodata: { claimed_port: PORT },
      shares: CORE_MAPS,
      tailCalls: [{ array: 'stream_end_programs', index: CLAIMED, program: 'knpt_end' }, walks],
    });
    const called = (what: number) => {
      const key = Buffer.alloc(4);
      key.writeUInt32LE(what);
      return Number(protocol.map('called').lookup(key)?.readBigUInt64LE(0));
    };
    const walk = () => [...core.source.steps(Date.now())];
    const server = await startPeer(['serve', 'knp-protocol-s', '127.0.0.1', PORT, 4]);
    const other = await startPeer(['serve', 'knp-protocol-o', '127.0.0.1', PORT + 1, 4]);
    const hold = await startPeer(['hold', 'knp-protocol-c', '127.0.0.1', PORT, 3, 100, 100]);
    const others = await startPeer(['hold', 'knp-protocol-d', '127.0.0.1', PORT + 1, 2, 100, 100]);
    await hold.exchange();
    walk();
    expect(called(WALK)).toBe(6); // both ends of three connections, and none of the other port
    walk();
    expect(called(WALK)).toBe(12);
    expect([FIN_WAIT1, LAST_ACK, CLOSE].map(called)).toEqual([0, 0, 0]);
    await hold.end();
    await others.end();
    expect([FIN_WAIT1, LAST_ACK, CLOSE].map(called)).toEqual([3, 3, 6]);
    protocol.close();
    walk(); // the slots are empty again
    await server.end();
    await other.end();
  } finally {
    loader.close();
  }
});
