// Files in the place of a BPF object that are none: the error is the probe's own, so that the others go on.
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { BpfLoader, ProbeError } from '../../../exporter/kernel/loader.ts';

const whole = readFileSync(new URL('../../../build/bpf/http1.bpf.o', import.meta.url));

test.each([
  ['empty', Buffer.alloc(0)],
  ['text', Buffer.from('no object\n'.repeat(100))],
  ['cut off', whole.subarray(0, whole.length / 2)],
  ['overwritten', Buffer.concat([whole.subarray(0, whole.length - 2000), Buffer.alloc(2000, 0xff)])],
])('a BPF object that is %s fails its probe, in one sentence', (_, bytes) => {
  const folder = mkdtempSync(join(tmpdir(), 'knp-object-'));
  try {
    writeFileSync(join(folder, 'http1.bpf.o'), bytes);
    const loader = new BpfLoader({ directory: pathToFileURL(`${folder}/`) });
    const load = () => loader.load({ object: 'http1', programs: [] });
    expect(load).toThrow(ProbeError);
    expect(load).toThrow(
      /^Probe http1 cannot be loaded: \/\S+\/http1\.bpf\.o is no BPF object \([^\n]+\)\.$/,
    );
    expect(loader.probes).toEqual([]);
  } finally {
    rmSync(folder, { recursive: true });
  }
});
