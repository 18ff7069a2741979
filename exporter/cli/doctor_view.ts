// What `doctor` found, as text. Knows nothing of where it came from: see commands/doctor.ts.

import type { AgentStatus, HookStatus, ProbeStatus } from '../agent/status.ts';
import type { Check } from './checks.ts';
import { type Column, renderTable } from './table.ts';
import { printable, scaled } from './text.ts';

export interface Diagnosis {
  /** True when nothing failed. */
  ok: boolean;
  /** Where `agent` comes from: a running agent, or probes that were loaded for a moment. */
  source: string;
  checks: readonly Check[];
  /** Undefined where no probe could be loaded; `checks` say why. */
  agent?: AgentStatus | undefined;
}

const MARKS = { ok: 'ok', missing: '--', failed: 'FAILED' } as const;

const CHECKS: readonly Column<Check>[] = [
  { title: 'CHECK', align: 'left', width: 6, grows: true, priority: 0, cell: ({ name }) => name },
  { title: 'STATE', align: 'left', width: 6, priority: 0, cell: ({ state }) => MARKS[state] },
  { title: 'DETAIL', align: 'left', width: 20, grows: true, priority: 1, cell: ({ detail }) => detail },
];

interface HookLine {
  probe: string;
  state: string;
  purpose: string;
  hook: string;
  detail: string;
}

const HOOKS: readonly Column<HookLine>[] = [
  { title: 'PROBE', align: 'left', width: 5, grows: true, priority: 0, cell: ({ probe }) => probe },
  { title: 'STATE', align: 'left', width: 8, priority: 1, cell: ({ state }) => state },
  { title: 'PURPOSE', align: 'left', width: 7, grows: true, priority: 0, cell: ({ purpose }) => purpose },
  { title: 'HOOK', align: 'left', width: 6, grows: true, priority: 0, cell: ({ hook }) => hook },
  {
    title: 'WHY NOT THE OTHERS',
    align: 'left',
    width: 18,
    grows: true,
    priority: 2,
    cell: ({ detail }) => detail,
  },
];

function hookLine(probe: ProbeStatus, hook: HookStatus): HookLine {
  return {
    probe: probe.name,
    state: probe.state,
    purpose: hook.purpose,
    hook: hook.hooks.length === 0 ? 'none' : hook.hooks.join(', '),
    detail: hook.skipped.map(({ reason }) => reason).join(' '),
  };
}

function hookLines(probe: ProbeStatus): HookLine[] {
  if (probe.hooks.length > 0) return probe.hooks.map((hook) => hookLine(probe, hook));
  return [{ probe: probe.name, state: probe.state, purpose: '', hook: '', detail: probe.reason ?? '' }];
}

const MAPS: readonly Column<AgentStatus['maps'][number]>[] = [
  { title: 'MAP', align: 'left', width: 6, grows: true, priority: 0, cell: ({ name }) => name },
  { title: 'ENTRIES', align: 'right', width: 9, priority: 0, cell: ({ entries }) => String(entries) },
  { title: 'CAPACITY', align: 'right', width: 9, priority: 0, cell: ({ capacity }) => String(capacity) },
  {
    title: 'FULL',
    align: 'right',
    width: 5,
    priority: 0,
    cell: ({ entries, capacity }) => (capacity > 0 ? `${Math.floor((entries / capacity) * 100)}%` : '-'),
  },
];

function agentLines(agent: AgentStatus, width: number): string[] {
  const lost = Object.entries(agent.lost).filter(([, count]) => count > 0);
  const losses = lost.map(([stage, count]) => `${stage} ${scaled(count)}`).join(', ');
  const coverage =
    agent.coverage_ratio === null ? 'no open connections' : `${(agent.coverage_ratio * 100).toFixed(1)}%`;
  return [
    ...renderTable(HOOKS, agent.probes.flatMap(hookLines), width),
    '',
    ...renderTable(MAPS, agent.maps, width),
    '',
    `lost since the start: ${losses === '' ? 'nothing' : losses}`,
    `open connections with an edge of their own: ${coverage}`,
    ...agent.problems.map((problem) => `! ${problem}`),
  ];
}

/** The whole diagnosis; tables no wider than `width`, every problem in full below them. */
export function renderDiagnosis({ ok, source, checks, agent }: Diagnosis, width: number): string {
  const failed = checks.filter(({ state }) => state === 'failed');
  const lines = [
    ...renderTable(CHECKS, checks, width),
    '',
    `probes: ${source}`,
    ...(agent === undefined ? [] : agentLines(agent, width)),
    '',
    // A table cuts long sentences; what to do must be readable.
    ...failed.map(({ name, detail }) => `! ${name}: ${detail}`),
    ok ? 'all is well' : 'something needs attention',
  ];
  return `${lines.map(printable).join('\n')}\n`;
}
