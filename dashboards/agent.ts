// The Agent dashboard: what the agent costs, what it lost, how full its tables are.
import { ANY_STEPS, FILL_STEPS } from './columns.ts';
import { type DashboardSpec, type Section, UID } from './layout.ts';
import type { PanelSpec } from './panels.ts';
import * as agent from './queries/agent.ts';
import { LINES } from './queries/scope.ts';

const state: Section = {
  id: 100,
  title: 'State',
  panels: [
    {
      id: 1,
      type: 'stat',
      title: 'Agents',
      description: 'Agents that report. There should be one per node.',
      unit: 'none',
      targets: [{ query: agent.agents() }],
    },
    {
      id: 2,
      type: 'stat',
      title: 'Coverage',
      description:
        "Share of a host's TCP sockets that are accounted to an edge of their own; the worst agent.",
      unit: 'percentunit',
      targets: [{ query: agent.coverage() }],
    },
    {
      id: 3,
      type: 'stat',
      title: 'Lost',
      description: 'Items per second that any stage of any agent could not keep.',
      unit: 'cps',
      steps: ANY_STEPS,
      targets: [{ query: agent.lost() }],
    },
    {
      id: 4,
      type: 'stat',
      title: 'Probes not ready',
      description: 'Probes that are not attached, or were not read yet.',
      unit: 'none',
      steps: ANY_STEPS,
      targets: [{ query: agent.probesNotReady() }],
    },
    {
      id: 5,
      type: 'stat',
      title: 'Processors used',
      description: 'By all agents and their BPF programs together.',
      unit: 'cores',
      targets: [
        { query: agent.agentCpu(), legend: 'agents' },
        { query: agent.bpfCpu(), legend: 'BPF' },
      ],
    },
    {
      id: 6,
      type: 'stat',
      title: 'Oldest start',
      description: 'When the agent that runs longest was started.',
      unit: 'dateTimeAsIso',
      targets: [{ query: agent.startTime() }],
    },
    {
      id: 7,
      type: 'table',
      title: 'Builds',
      description: 'Versions of agent, Node.js and kernel, and how many agents have them.',
      unit: 'none',
      height: 6,
      targets: [{ query: agent.builds(), refId: 'agents' }],
      labels: {
        version: { title: 'Agent' },
        runtime_version: { title: 'Node.js' },
        kernel_release: { title: 'Kernel' },
        arch: { title: 'Architecture' },
      },
      values: { agents: { title: 'Agents', unit: 'none' } },
    },
    {
      id: 8,
      type: 'table',
      title: 'Hooks',
      description: 'The hooks that the probes use. `kubenetprobe doctor` says why others are not.',
      unit: 'none',
      height: 6,
      targets: [{ query: agent.hooks(), refId: 'agents' }],
      labels: { probe: { title: 'Probe' }, hook: { title: 'Hook' } },
      values: { agents: { title: 'Agents', unit: 'none' } },
    },
  ],
};

const cost: Section = {
  id: 101,
  title: 'Cost',
  panels: [
    {
      id: 10,
      type: 'timeseries',
      title: 'Processors by agent',
      description: `Agent process and BPF programs together; the ${LINES} most expensive agents.`,
      unit: 'cores',
      targets: [{ query: agent.cost(), legend: '{{instance}}' }],
    },
    {
      id: 11,
      type: 'timeseries',
      title: 'Processors by BPF program',
      description: `The ${LINES} most expensive. Needs bpf.stats.`,
      unit: 'cores',
      stacked: true,
      targets: [{ query: agent.bpfCpu(['program']), legend: '{{program}}' }],
    },
    {
      id: 12,
      type: 'timeseries',
      title: 'Runs by BPF program',
      description: `Per second; the ${LINES} that run most. Needs bpf.stats.`,
      unit: 'cps',
      targets: [{ query: agent.bpfRuns(), legend: '{{program}}' }],
    },
    {
      id: 13,
      type: 'timeseries',
      title: 'Time per run',
      description: `The ${LINES} programs that take longest. Needs bpf.stats.`,
      unit: 's',
      targets: [{ query: agent.bpfSecondsPerRun(), legend: '{{program}}' }],
    },
    {
      id: 14,
      type: 'timeseries',
      title: 'Memory',
      description: `Resident, and the JavaScript heap in it; the ${LINES} largest agents.`,
      unit: 'bytes',
      targets: [
        { query: agent.residentMemory(), legend: '{{instance}} resident' },
        { query: agent.heapMemory(), legend: '{{instance}} heap' },
      ],
    },
    {
      id: 15,
      type: 'timeseries',
      title: 'Event loop held',
      description: 'Longest time, and 99th percentile, since the last collection. Long holds delay scrapes.',
      unit: 's',
      targets: [
        { query: agent.eventLoopHold(), legend: '{{instance}} max' },
        { query: agent.eventLoopHoldP99(), legend: '{{instance}} p99' },
      ],
    },
    {
      id: 16,
      type: 'timeseries',
      title: 'Open files',
      description: `File descriptors; the ${LINES} agents with most. A line that only climbs is a leak.`,
      unit: 'short',
      targets: [{ query: agent.openFiles(), legend: '{{instance}}' }],
    },
  ],
};

const losses: Section = {
  id: 102,
  title: 'Losses and limits',
  panels: [
    {
      id: 20,
      type: 'timeseries',
      title: 'Lost by stage',
      description: 'Items per second. What a stage means, and what to do: docs/runbooks/KnpAgentLoss.md.',
      unit: 'cps',
      steps: ANY_STEPS,
      targets: [{ query: agent.lost(['stage']), legend: '{{stage}}' }],
    },
    {
      id: 21,
      type: 'timeseries',
      title: 'BPF maps',
      description: `How full the fullest map of each name is; the ${LINES} fullest.`,
      unit: 'percentunit',
      max: 1,
      steps: FILL_STEPS,
      targets: [{ query: agent.mapFill(), legend: '{{map}}' }],
    },
    {
      id: 22,
      type: 'timeseries',
      title: 'Coverage by agent',
      description: `Share of the host's TCP sockets that are accounted to an edge of their own; the ${LINES} lowest.`,
      unit: 'percentunit',
      max: 1,
      targets: [{ query: agent.coverage(['instance']), legend: '{{instance}}' }],
    },
    {
      id: 23,
      type: 'timeseries',
      title: 'Series',
      description: `Exposed by all agents together; the ${LINES} largest metrics.`,
      unit: 'short',
      targets: [{ query: agent.series(), legend: '{{metric}}' }],
    },
    {
      id: 24,
      type: 'timeseries',
      title: 'Series folded',
      description: 'Series counted under `other` because of limits.series_per_metric.',
      unit: 'short',
      targets: [{ query: agent.seriesFolded(), legend: '{{metric}}' }],
    },
    {
      id: 25,
      type: 'timeseries',
      title: 'Series of the limit',
      description: `The largest metric of an agent in relation to limits.series_per_metric; the ${LINES} nearest.`,
      unit: 'percentunit',
      steps: FILL_STEPS,
      targets: [{ query: agent.seriesFill(), legend: '{{instance}}' }],
    },
    {
      id: 26,
      type: 'timeseries',
      title: 'HTTP that could not be followed',
      description: 'Connections per second whose HTTP traffic could not be followed to the end, by reason.',
      unit: 'cps',
      targets: [{ query: agent.unparsed(), legend: '{{reason}}' }],
    },
    {
      id: 27,
      type: 'timeseries',
      title: 'Routes',
      description: `HTTP routes learnt; the ${LINES} agents with most.`,
      unit: 'short',
      targets: [{ query: agent.routes(), legend: '{{instance}}' }],
    },
    {
      id: 28,
      type: 'timeseries',
      title: 'HTTP records from the kernel',
      description:
        'Per second: paths seen for the first time, and sampled requests. All other requests are counted in the kernel.',
      unit: 'cps',
      targets: [{ query: agent.httpEvents(), legend: '{{kind}}' }],
    },
  ],
};

const reading: Section = {
  id: 103,
  title: 'Collections and scrapes',
  panels: [
    {
      id: 30,
      type: 'timeseries',
      title: 'Collection',
      description: 'Time that a collection took: all sources read, limits applied.',
      unit: 's',
      targets: [
        { query: agent.collectionQuantile(0.5), legend: 'p50' },
        { query: agent.collectionQuantile(0.99), legend: 'p99' },
      ],
    },
    {
      id: 31,
      type: 'timeseries',
      title: 'Scrape',
      description: 'Time from the request to the last byte handed to the socket.',
      unit: 's',
      targets: [
        { query: agent.scrapeQuantile(0.5), legend: 'p50' },
        { query: agent.scrapeQuantile(0.99), legend: 'p99' },
      ],
    },
    {
      id: 32,
      type: 'timeseries',
      title: 'Scrapes by outcome',
      description: 'Per second.',
      unit: 'cps',
      stacked: true,
      targets: [{ query: agent.scrapes(), legend: '{{outcome}}' }],
    },
    {
      id: 33,
      type: 'timeseries',
      title: 'Sources',
      description: 'Time that each source took in the last collection; the slowest agent.',
      unit: 's',
      targets: [{ query: agent.sourceSeconds(), legend: '{{source}}' }],
    },
    {
      id: 34,
      type: 'timeseries',
      title: 'Failures of sources',
      description: 'Collections per second in which the source failed. The log says why.',
      unit: 'cps',
      steps: ANY_STEPS,
      targets: [{ query: agent.sourceFailures(), legend: '{{source}}' }],
    },
  ],
};

const line = (
  id: number,
  title: string,
  description: string,
  unit: PanelSpec['unit'],
  ...targets: readonly (readonly [{ readonly promql: string }, string])[]
): PanelSpec => ({
  id,
  type: 'timeseries',
  title,
  description,
  unit,
  targets: targets.map(([query, legend]) => ({ query, legend })),
});

const names: Section = {
  id: 104,
  title: 'Names',
  panels: [
    line(40, 'Names in memory', 'Entries, by kind.', 'short', [agent.identityEntries(), '{{kind}}']),
    line(41, 'Unresolved', 'Lookups per second that found no better name than `unknown`.', 'cps', [
      agent.unresolved(),
      '{{kind}}',
    ]),
    line(42, 'Kubernetes objects', 'Objects of the API held in memory.', 'short', [
      agent.kubernetesObjects(),
      '{{resource}}',
    ]),
    line(
      43,
      'Watches restarted',
      'Per second. The API server ends watches now and then; often means trouble.',
      'cps',
      [agent.watchRestarts(), '{{resource}}'],
    ),
    line(44, 'Not synced', 'Agents whose first list of the resource is not complete.', 'short', [
      agent.notSynced(),
      '{{resource}}',
    ]),
  ],
};

const exports: Section = {
  id: 105,
  title: 'Spans and OTLP',
  panels: [
    line(
      50,
      'Spans',
      'Per second: made, and acknowledged by the receiver.',
      'cps',
      [agent.spansCreated(), 'created {{kind}}'],
      [agent.spansExported(), 'exported'],
    ),
    line(51, 'Spans dropped', 'Per second, by reason.', 'cps', [agent.spansDropped(), '{{reason}}']),
    line(52, 'Span queue', 'How full the fullest queue is.', 'percentunit', [agent.spanQueueFill(), 'queue']),
    line(53, 'OTLP exports', 'Per second, by outcome.', 'cps', [
      agent.otlpExports(),
      '{{signal}} {{outcome}}',
    ]),
    line(54, 'OTLP export time, p95', 'Retries included.', 's', [agent.otlpQuantile(0.95), '{{signal}}']),
    line(
      55,
      'OTLP retries and refusals',
      'Exports tried again, and items that the receiver refused, per second.',
      'cps',
      [agent.otlpRetries(), '{{signal}} retries'],
      [agent.otlpRejected(), '{{signal}} refused'],
    ),
  ],
};

export const agentDashboard: DashboardSpec = {
  uid: UID.agent,
  title: 'KubeNetProbe / Agent',
  description:
    'The agent about itself: cost per program, losses per stage, coverage, how full its tables are.',
  variables: ['cluster', 'instance'],
  sections: [state, cost, losses, reading, names, exports],
};
