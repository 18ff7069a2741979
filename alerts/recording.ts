// Recording rules: what several alerts read, or what would be expensive to read over long windows. Names:
// knp:<level>_<what>:<operation>. Called by generate.ts and by the groups of alerts.
import {
  add,
  divide,
  max,
  orZeroOf,
  quantile,
  rate,
  sum,
  type Vector,
} from '../dashboards/promql/expression.ts';
import { present } from '../dashboards/promql/matchers.ts';
import type { Duration } from '../dashboards/promql/names.ts';
import { counter, gauge, histogram, requestHistogram } from '../dashboards/promql/select.ts';
import type { RequestProtocol } from '../exporter/telemetry/requests/protocol.ts';
import { type Recorded, recorded, recordedByProtocol } from './rule.ts';
import type { Settings } from './settings.ts';

const SERVER = ['cluster', 'server_namespace', 'server_workload'] as const;
const PORT = [...SERVER, 'server_port'] as const;
const PAIR = [
  'cluster',
  'client_namespace',
  'client_workload',
  'server_namespace',
  'server_workload',
] as const;
type Server = (typeof SERVER)[number];
/** What a server answers in one protocol. */
export type Service = Server | 'protocol';
type Port = (typeof PORT)[number];
type Pair = (typeof PAIR)[number];

// The server's side counts every request that arrives, once.
const REPORTER = { reporter: 'server' } as const;
const requests = (protocol: RequestProtocol, window: Duration): Vector<Server> =>
  sum(rate(requestHistogram(protocol, 'server', REPORTER).count, window), SERVER);
const failed = (protocol: RequestProtocol, window: Duration): Vector<Server> =>
  sum(rate(requestHistogram(protocol, 'server', { ...REPORTER, error_type: present }).count, window), SERVER);
const latency = (protocol: RequestProtocol, window: Duration): Vector<Server> =>
  quantile(0.95, sum(rate(requestHistogram(protocol, 'server', REPORTER).bucket, window), [...SERVER, 'le']));

// Only the client sees an attempt that fails.
const opened = (window: Duration): Vector<Port> =>
  sum(rate(counter('knp.tcp.connections_opened', { reporter: 'client' }), window), PORT);
const connectFailures = (window: Duration): Vector<Port> =>
  sum(rate(counter('knp.tcp.connect_failures', { reporter: 'client' }), window), PORT);

// Each side retransmits its own segments: both together are the pair's.
const retransmits = (window: Duration): Vector<Pair> =>
  sum(rate(counter('knp.tcp.retransmitted_segments', {}), window), PAIR);
const sent = (window: Duration): Vector<Pair> => sum(rate(counter('knp.tcp.sent_bytes', {}), window), PAIR);

export interface Recordings {
  readonly requestRate: Recorded<Service>;
  readonly requestRateBefore: Recorded<Service>;
  /** Window → share of failed requests. */
  readonly errorRatio: ReadonlyMap<Duration, Recorded<Service>>;
  readonly latency: Recorded<Service>;
  readonly opened: Recorded<Port>;
  readonly connectFailures: Recorded<Port>;
  readonly connectFailureRatio: Recorded<Port>;
  readonly listenDrops: Recorded<Port>;
  readonly retransmits: Recorded<Pair>;
  readonly retransmitsPerMegabyte: Recorded<Pair>;
  readonly receiveWindow: Recorded<Pair>;
  readonly rtt: Recorded<Pair>;
  readonly cores: Recorded<'cluster' | 'instance'>;
  readonly lost: Recorded<'cluster' | 'instance' | 'stage'>;
  readonly mapFill: Recorded<'cluster' | 'instance' | 'map'>;
}

function serviceRecordings({ windows }: Settings, protocols: readonly RequestProtocol[]) {
  const { rate: window, fast, slow, trafficBefore } = windows;
  const errorWindows = [...new Set([...fast, ...slow])];
  const errorRatio = (each: Duration) => (protocol: RequestProtocol) => {
    const all = requests(protocol, each);
    return divide(orZeroOf(failed(protocol, each), all), all);
  };
  const record = <L extends string>(
    name: `knp:${string}:${string}`,
    of: (protocol: RequestProtocol) => Vector<L>,
  ) => recordedByProtocol(name, protocols, of);
  return {
    requestRate: record(`knp:server_requests:rate${window}`, (each) => requests(each, window)),
    requestRateBefore: record(`knp:server_requests:rate${trafficBefore}`, (each) =>
      requests(each, trafficBefore),
    ),
    errorRatio: new Map(
      errorWindows.map((each) => [
        each,
        record(`knp:server_request_error_ratio:rate${each}`, errorRatio(each)),
      ]),
    ),
    latency: record(`knp:server_request_latency_seconds:p95_rate${window}`, (each) => latency(each, window)),
  };
}

function tcpRecordings({ windows }: Settings) {
  const { rate: window } = windows;
  const failures = orZeroOf(connectFailures(window), opened(window));
  const rtt = histogram('knp.tcp.rtt', {});
  return {
    opened: recorded(`knp:port_tcp_connections_opened:rate${window}`, opened(window)),
    connectFailures: recorded(`knp:port_tcp_connect_failures:rate${window}`, connectFailures(window)),
    connectFailureRatio: recorded(
      `knp:port_tcp_connect_failure_ratio:rate${window}`,
      divide(failures, add(failures, orZeroOf(opened(window), connectFailures(window)))),
    ),
    listenDrops: recorded(
      `knp:port_tcp_listen_drops:rate${window}`,
      sum(rate(counter('knp.tcp.listen_drops', {}), window), PORT),
    ),
    retransmits: recorded(`knp:pair_tcp_retransmits:rate${window}`, retransmits(window)),
    retransmitsPerMegabyte: recorded(
      `knp:pair_tcp_retransmits_per_megabyte:rate${window}`,
      divide(retransmits(window), divide(sent(window), 1e6)),
    ),
    receiveWindow: recorded(
      `knp:pair_tcp_receive_window_seconds:rate${window}`,
      sum(rate(counter('knp.tcp.limited', { by: 'receive_window' }), window), PAIR),
    ),
    rtt: recorded(
      `knp:pair_tcp_rtt_seconds:mean${windows.rtt}`,
      divide(sum(rate(rtt.sum, windows.rtt), PAIR), sum(rate(rtt.count, windows.rtt), PAIR)),
    ),
  };
}

function agentRecordings({ windows }: Settings) {
  const { rate: window } = windows;
  const agent = sum(rate(counter('knp.agent.cpu', {}), window), ['cluster', 'instance']);
  const programs = sum(rate(counter('knp.bpf.program.seconds', {}), window), ['cluster', 'instance']);
  return {
    // Programs are measured only with bpf.stats.
    cores: recorded(`knp:instance_cores:rate${window}`, add(agent, orZeroOf(programs, agent))),
    lost: recorded(
      `knp:stage_lost:rate${window}`,
      sum(rate(counter('knp.agent.lost', {}), window), ['cluster', 'instance', 'stage']),
    ),
    mapFill: recorded(
      'knp:map_fill:ratio',
      max(divide(gauge('knp.bpf.map.entries', {}), gauge('knp.bpf.map.capacity', {})), [
        'cluster',
        'instance',
        'map',
      ]),
    ),
  };
}

/** Those about requests are there for each of the protocols. */
export function recordings(settings: Settings, protocols: readonly RequestProtocol[]): Recordings {
  return {
    ...serviceRecordings(settings, protocols),
    ...tcpRecordings(settings),
    ...agentRecordings(settings),
  };
}
