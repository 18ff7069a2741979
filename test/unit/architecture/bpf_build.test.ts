// Compiling the BPF programs depends on neither the build machine's kernel, its headers, nor its architecture.
import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { expect, test } from 'vitest';
import { ownFiles, ROOT } from '../../../scripts/architecture/files.ts';

const hasClang = spawnSync('clang', ['--version']).status === 0;

/** Every file that compiling `source` for `architecture` reads. */
function compile(source: string, architecture: string): { inputs: string[]; object: Buffer } {
  const folder = mkdtempSync(join(tmpdir(), 'knp-architecture-bpf-'));
  try {
    const flags = execFileSync('make', ['-s', 'bpf-flags', `BPF_ARCH=${architecture}`], {
      cwd: ROOT,
      encoding: 'utf8',
    });
    const object = join(folder, 'out.o');
    const inputs = join(folder, 'out.d');
    execFileSync('clang', [...flags.trim().split(' '), '-MD', '-MF', inputs, '-c', source, '-o', object], {
      cwd: ROOT,
    });
    const [, list] = readFileSync(inputs, 'utf8').replaceAll('\\\n', ' ').split(/:\s/) as [string, string];
    return { inputs: list.split(/\s+/).filter(Boolean), object: readFileSync(object) };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const sources = ownFiles(/^bpf\/.+\.bpf\.c$/);

test('there are programs to compile', () => {
  expect(sources.map((path) => basename(path))).toContain('core.bpf.c');
});

test.each(sources)('%s reads only files of the repository, and compiles for x86 and arm64', (source) => {
  expect(hasClang, 'clang is installed by scripts/bootstrap').toBe(true);
  for (const architecture of ['x86', 'arm64']) {
    const { inputs, object } = compile(source, architecture);
    expect(inputs.filter((path) => path.startsWith('/') || path.startsWith('..'))).toEqual([]);
    // ELF, little endian, machine 247 (EM_BPF)
    expect(object.subarray(0, 4).toString('latin1')).toBe('\x7fELF');
    expect(object.readUInt16LE(18)).toBe(247);
  }
});
