// Every number of the alerts in one place: thresholds, windows, how long a condition must hold. generate.ts writes the
// defaults; the chart's values override the thresholds; the demo shortens the windows.
import type { Scalar } from '../dashboards/promql/expression.ts';
import type { Duration } from '../dashboards/promql/names.ts';

/** Thresholds by name: default and meaning. The names are the keys of the chart's `prometheusRule.thresholds`. */
export const THRESHOLDS = {
  request_rate: { value: 0.1, about: 'Requests per second below which errors and latency raise no alert.' },
  error_ratio_fast: {
    value: 0.144,
    about: 'Share of failed requests over 5 minutes and 1 hour: 14.4 times an error budget of 1 %.',
  },
  error_ratio_slow: {
    value: 0.06,
    about: 'Share of failed requests over 30 minutes and 6 hours: 6 times an error budget of 1 %.',
  },
  latency_p95_seconds: { value: 1, about: 'Latency that 95 of 100 requests should not exceed.' },
  traffic_rate_before: {
    value: 1,
    about: 'Requests per second that a workload had, for its silence to count.',
  },
  traffic_share_left: { value: 0.05, about: 'Share of the traffic before, below which it counts as gone.' },
  connect_failure_rate: {
    value: 0.1,
    about: 'Failed connection attempts per second below which there is no alert.',
  },
  connect_failure_ratio: { value: 0.05, about: 'Share of connection attempts that fail.' },
  retransmit_rate: { value: 1, about: 'Retransmitted segments per second below which there is no alert.' },
  retransmits_per_megabyte: {
    value: 15,
    about: 'Retransmitted segments per megabyte sent; 7 are 1 % of full segments.',
  },
  listen_drop_rate: { value: 0.01, about: 'Connection requests per second that listeners drop.' },
  receive_window_seconds: {
    value: 0.5,
    about: 'Seconds per second in which senders wait for the window of the receiver.',
  },
  rtt_shift_factor: { value: 2, about: 'Round-trip time in relation to a week before.' },
  rtt_shift_seconds: { value: 0.001, about: 'Growth of the round-trip time that matters at all.' },
  lost_rate: { value: 0, about: 'Items per second that the agent could not keep.' },
  coverage_ratio: {
    value: 0.95,
    about: "Share of a host's sockets that should be accounted to an edge of their own.",
  },
  map_fill_ratio: { value: 0.85, about: 'How full a BPF map may be.' },
  agent_cores: { value: 0.5, about: 'Processors that one agent and its BPF programs may use.' },
} as const satisfies Record<string, { value: number; about: string }>;

export type ThresholdName = keyof typeof THRESHOLDS;

/** Windows of the rates. */
export interface Windows {
  /** Most rates. */
  readonly rate: Duration;
  /** Error budget: both windows of a pair must be over the threshold. */
  readonly fast: readonly [Duration, Duration];
  readonly slow: readonly [Duration, Duration];
  /** Traffic before, and how long ago before was. */
  readonly trafficBefore: Duration;
  readonly trafficAgo: Duration;
  readonly rtt: Duration;
  readonly rttAgo: Duration;
}

export const DEFAULT_WINDOWS: Windows = {
  rate: '5m',
  fast: ['5m', '1h'],
  slow: ['30m', '6h'],
  trafficBefore: '1h',
  trafficAgo: '10m',
  rtt: '1h',
  rttAgo: '1w',
};

/** How long the condition of each alert must hold. */
export const DEFAULT_HOLD = {
  KnpErrorBudgetBurnFast: '2m',
  KnpErrorBudgetBurnSlow: '15m',
  KnpLatencyHigh: '10m',
  KnpTrafficGone: '10m',
  KnpNoReadyBackend: '5m',
  KnpConnectFailures: '10m',
  KnpRetransmits: '15m',
  KnpListenDrops: '5m',
  KnpReceiverLimited: '15m',
  KnpRttShift: '30m',
  KnpAgentLoss: '5m',
  KnpCoverageLow: '15m',
  KnpProbeNotReady: '5m',
  KnpMapNearlyFull: '10m',
  KnpAgentDown: '5m',
  KnpAgentAbsent: '5m',
  KnpAgentCostly: '30m',
} as const satisfies Record<string, Duration>;

export type AlertName = keyof typeof DEFAULT_HOLD;

export interface Settings {
  readonly thresholds: Readonly<Record<ThresholdName, Scalar>>;
  readonly windows: Windows;
  readonly hold: Readonly<Record<AlertName, Duration>>;
  /** Time between evaluations. */
  readonly interval: Duration;
  /** Job label of the agents' scrapes (RE2): what `up` is read for. */
  readonly job: string;
  /** Where the runbooks are; the alert's name and `.md` follow. */
  readonly runbooks: string;
}

export const DEFAULT_SETTINGS: Settings = {
  thresholds: Object.fromEntries(
    Object.entries(THRESHOLDS).map(([name, { value }]) => [name, value]),
  ) as Record<ThresholdName, number>,
  windows: DEFAULT_WINDOWS,
  hold: DEFAULT_HOLD,
  interval: '30s',
  job: '.*kubenetprobe.*',
  runbooks: 'https://github.com/kubenetprobe/kubenetprobe/blob/main/docs/runbooks',
};
