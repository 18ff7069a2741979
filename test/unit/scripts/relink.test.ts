// The parts that the image carries for users of libelf's licence: they can change libelf, link the addon anew with
// nothing but these parts, and the agent's native layer runs on what they made.
import { execFileSync } from 'node:child_process';
import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../../..');
const folder = mkdtempSync(join(tmpdir(), 'knp-relink-'));
const parts = join(folder, 'relink');
/** Any BPF object of the agent. */
const object = join(
  ROOT,
  'build/bpf',
  readdirSync(join(ROOT, 'build/bpf'), { recursive: true, encoding: 'utf8' }).find((path) =>
    path.endsWith('.bpf.o'),
  ) ?? '',
);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const make = (...args: string[]): string =>
  execFileSync('make', ['-C', parts, ...args], { encoding: 'utf8' });

/** A BPF object, then one that is cut short: the names of the programs, and what libelf says of the second. */
const OPEN = `
  const [layer, whole, cut] = process.argv.slice(1);
  const { openObject } = await import(layer);
  const names = openObject(whole).programs.map(({ name }) => name);
  try {
    openObject(cut);
  } catch ({ message }) {
    console.log(JSON.stringify({ names, message }));
  }`;

/** Runs the agent's native layer with an addon, in a process of its own. */
function open(addon: string): { names: string[]; message: string } {
  const agent = mkdtempSync(join(folder, 'agent-'));
  cpSync(join(ROOT, 'dist/kernel'), join(agent, 'dist/kernel'), { recursive: true });
  cpSync(join(ROOT, 'package.json'), join(agent, 'package.json'));
  mkdirSync(join(agent, 'build/native'), { recursive: true });
  cpSync(addon, join(agent, 'build/native/knp.node'));
  const args = [join(agent, 'dist/kernel/native.js'), object, join(folder, 'cut.o')];
  const output = execFileSync(process.execPath, ['--input-type=module', '-e', OPEN, ...args], {
    encoding: 'utf8',
  });
  return JSON.parse(output);
}

beforeAll(() => {
  cpSync(join(ROOT, 'build/relink'), parts, { recursive: true });
  writeFileSync(join(folder, 'cut.o'), readFileSync(object).subarray(0, 200));
});

test('a libelf that was changed is linked into the addon, which works and shows the change', {
  timeout: 300_000,
}, () => {
  const original = open(join(ROOT, 'build/native/knp.node'));
  expect(original.names).not.toEqual([]);
  expect(original.message).toContain("invalid `Elf' handle");

  const source = join(parts, 'elfutils/libelf/elf_error.c');
  const text = readFileSync(source, 'utf8');
  writeFileSync(source, text.replaceAll("invalid `Elf' handle", 'the words of a user'));
  make('-j2', 'CFLAGS=-O0');
  const relinked = open(join(parts, 'knp.node'));
  expect(relinked.names).toEqual(original.names);
  expect(relinked.message).toBe(original.message.replace("invalid `Elf' handle", 'the words of a user'));
});

test('a libelf that was built elsewhere is linked as it is', { timeout: 300_000 }, () => {
  expect(existsSync(join(parts, 'obj/libelf.a')), 'the test before made it').toBe(true);
  rmSync(join(parts, 'obj/elfutils'), { recursive: true });
  rmSync(join(parts, 'elfutils'), { recursive: true });
  rmSync(join(parts, 'knp.node'));
  make('-o', 'obj/libelf.a');
  expect(open(join(parts, 'knp.node')).message).toContain('the words of a user');
});
