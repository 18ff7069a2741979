// .editorconfig says what the files are like; so they are, and every way not to be is found.
import { execFileSync } from 'node:child_process';
import { readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parseEditorConfig, settingsFor, violations } from '../../../scripts/editorconfig.ts';

const ROOT = join(import.meta.dirname, '../../..');
const sections = parseEditorConfig(readFileSync(join(ROOT, '.editorconfig'), 'utf8'));

test('every file of the repository keeps to it', () => {
  const listed = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  const paths = listed
    .split('\0')
    .filter((path) => statSync(join(ROOT, path), { throwIfNoEntry: false })?.isFile());
  expect(paths).toContain('.editorconfig');
  const problems = paths
    .filter((path) => settingsFor(sections, path).charset === 'utf-8' && !/\.(png|jar|gz)$/.test(path))
    .flatMap((path) =>
      violations(readFileSync(join(ROOT, path), 'utf8'), settingsFor(sections, path)).map(
        (problem) => `${path}: ${problem}`,
      ),
    );
  expect(problems).toEqual([]);
});

test.each([
  ['bpf/core/edge.h', 'tab'],
  ['test/kernel/http/peer.c', 'tab'],
  ['native/knp.h', 'space'],
  ['native/knp.cc', 'space'],
  ['test/fuzz/driver.c', 'space'],
  ['exporter/cli/main.ts', 'space'],
  ['Makefile', 'tab'],
  ['test/fuzz/Makefile', 'tab'],
  ['native/link.mk', 'tab'],
  ['native/vendor/libbpf/src/bpf.h', 'unset'],
  ['test/fuzz/corpus/00', 'unset'],
  ['scripts/bootstrap', 'space'],
])('%s is indented by: %s', (path, style) => {
  expect(settingsFor(sections, path).indent_style).toBe(style);
});

test.each([
  ['carriage return', 'a\r\n', 'line 1 ends with a carriage return'],
  ['white space', 'a\nb \n', 'line 2 ends with white space'],
  ['tab', 'a\n\tb\n', 'line 2 is indented by a tab'],
  ['no end', 'a', 'the last line does not end'],
])('%s is found', (_name, text, problem) => {
  expect(violations(text, settingsFor(sections, 'a.ts'))).toEqual([problem]);
});

test('in C, spaces are found and the margin of a comment is not', () => {
  const settings = settingsFor(sections, 'bpf/a.c');
  expect(violations('/* a\n * b */\n\tc;\n\t\t  d;\n', settings)).toEqual([]);
  expect(violations('  a;\n', settings)).toEqual(['line 1 is indented by spaces']);
});
