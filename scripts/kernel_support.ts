// Which hooks the probes use on which kernel: asked of `doctor` in the guests, kept in test/guests/kernel_support.json,
// shown in docs/kernel-support.md. `node scripts/kernel_support.ts` asks again and rewrites both.
//   --native LABEL   asks this machine's own kernel and keeps the answer under LABEL, instead of asking the guests
import { execFileSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { ROOT } from './architecture/files.ts';

/** Kernels on which everything must work. */
export const SUPPORTED = ['6.1', '6.12', '7'] as const;

/** Kernel → `probe: purpose` → hooks in use, as SEC() names them. */
export type Support = Record<string, Record<string, readonly string[]>>;

const DATA = join(ROOT, 'test/guests/kernel_support.json');
const PAGE = join(ROOT, 'docs/kernel-support.md');
const TABLE = /(<!-- hooks: [^\n]*-->\n)[\s\S]*?(<!-- end of hooks -->)/;

export const readSupport = (): Support => JSON.parse(readFileSync(DATA, 'utf8')) as Support;

/** What `doctor --json` says, reduced to hooks by purpose. Throws where a probe is not attached. */
export function hooksOf(diagnosis: string): Record<string, readonly string[]> {
  type Probe = {
    name: string;
    state: string;
    reason?: string;
    hooks: { purpose: string; hooks: string[] }[];
  };
  const { agent } = JSON.parse(diagnosis) as { agent?: { probes: Probe[] } };
  if (agent === undefined) throw new Error(`doctor could not load the probes: ${diagnosis}`);
  const found: Record<string, readonly string[]> = {};
  for (const probe of agent.probes) {
    if (probe.state === 'failed') throw new Error(`probe ${probe.name}: ${probe.reason}`);
    for (const { purpose, hooks } of probe.hooks) found[`${probe.name}: ${purpose}`] = [...new Set(hooks)];
  }
  return found;
}

/** The command of which hooksOf() reads the output. */
export const DOCTOR = ['bin/kubenetprobe', 'doctor', '--json'] as const;

/** The page with its table made anew. */
export function renderPage(page: string, support: Support): string {
  if (!TABLE.test(page)) throw new Error('docs/kernel-support.md has lost the marks around its table');
  const kernels = Object.keys(support).sort((a, b) => a.localeCompare(b, 'en', { numeric: true }));
  const purposes = [...new Set(kernels.flatMap((kernel) => Object.keys(support[kernel] ?? {})))];
  const cell = (hooks: readonly string[] | undefined): string =>
    hooks === undefined || hooks.length === 0 ? '–' : hooks.map((hook) => `\`${hook}\``).join('<br>');
  const rows = purposes.map((purpose) => [
    purpose,
    ...kernels.map((kernel) => cell(support[kernel]?.[purpose])),
  ]);
  const lines = [['Probe: purpose', ...kernels], ['', ...kernels].map(() => '---'), ...rows];
  const table = lines.map((row) => `| ${row.join(' | ')} |`).join('\n');
  return page.replace(TABLE, (_all, start: string, end: string) => `${start}\n${table}\n\n${end}`);
}

export const readPage = (): string => readFileSync(PAGE, 'utf8');

function main(): void {
  const { values } = parseArgs({ options: { native: { type: 'string' } } });
  const support = readSupport();
  const ask = (command: readonly string[]): Record<string, readonly string[]> =>
    hooksOf(execFileSync(command[0] as string, command.slice(1), { cwd: ROOT, encoding: 'utf8' }));
  if (values.native !== undefined) support[values.native] = ask(DOCTOR);
  else {
    for (const series of SUPPORTED) {
      support[series] = ask([process.execPath, 'test/guests/guest.ts', series, DOCTOR.join(' ')]);
    }
  }
  writeFileSync(DATA, `${JSON.stringify(support, undefined, 2)}\n`);
  execFileSync('biome', ['format', '--write', DATA], { cwd: ROOT, stdio: 'ignore' });
  writeFileSync(PAGE, renderPage(readPage(), support));
}

if (import.meta.main) main();
