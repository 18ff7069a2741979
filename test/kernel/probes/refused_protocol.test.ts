// One of two protocols cannot be loaded: it is off alone, `doctor` says so in one sentence, and the other one counts.
import { spawnSync } from 'node:child_process';
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ROOT } from '../../../scripts/architecture/files.ts';
import { nativeOnly } from '../../guests/scale.ts';
import { Tree } from '../../testbed/tree.ts';

let tree: Tree | undefined;
beforeAll(() => {
  tree = new Tree();
  cpSync(join(ROOT, 'build/bpf'), join(tree.root, 'build/bpf'), { recursive: true });
  refuseFirst(join(tree.root, 'build/bpf/http1.bpf.o'));
});
afterAll(() => tree?.remove());

/** Turns the first call of a helper in each program into one of a helper that no kernel has: the verifier refuses it. */
function refuseFirst(file: string): void {
  const object = readFileSync(file);
  // struct bpf_insn: BPF_JMP | BPF_CALL (0x85), no registers, no offset, then the helper's number.
  const call = Buffer.from([0x85, 0, 0, 0]);
  let changed = 0;
  for (let at = object.indexOf(call); at >= 0; at = object.indexOf(call, at + 8)) {
    if (at % 8 !== 0 || object.readUInt32LE(at + 4) === 0 || object.readUInt32LE(at + 4) > 211) continue;
    object.writeUInt32LE(0x7fff, at + 4);
    changed++;
  }
  expect(changed).toBeGreaterThan(0);
  writeFileSync(file, object);
}

test('a protocol that the kernel refuses is off alone', (context) => {
  nativeOnly(context, 'a matter of the loader, not of the kernel');
  if (tree === undefined) throw new Error('there is no tree');
  expect(readdirSync(join(tree.root, 'build/bpf'))).toContain('redis.bpf.o');
  const { status, stdout } = spawnSync(process.execPath, ['exporter/cli/main.ts', 'doctor', '--json'], {
    cwd: tree.root,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  expect(status).toBe(1); // it has found something
  const { agent } = JSON.parse(stdout) as {
    agent: { probes: { name: string; state: string; reason?: string }[] };
  };
  const { probes } = agent;
  const states = Object.fromEntries(probes.map(({ name, state }) => [name, state]));
  expect(states).toEqual({
    core: 'attached',
    stream: 'attached',
    http: 'failed',
    redis: 'attached',
    tcp: 'attached',
  });
  const reason = probes.find(({ name }) => name === 'http')?.reason ?? '';
  expect(reason).toMatch(/^Probe http1 cannot be loaded \(E[A-Z]+: [^\n]*(invalid|unknown) func[^\n]*\)\.$/);
});
