// For every alert what makes it fire, word for word, and what comes near and must not.
import type { Scenario } from './promtool.ts';

const SERVER = 'server_namespace="shop",server_workload="cart"';
const CLIENT = 'client_namespace="shop",client_workload="web"';
const server = { server_namespace: 'shop', server_workload: 'cart' };
const pair = { ...server, client_namespace: 'shop', client_workload: 'web' };
const request = (labels: string): string =>
  `http_server_request_duration_seconds_count{reporter="server",${SERVER}${labels}}`;
const bucket = (le: string): string =>
  `http_server_request_duration_seconds_bucket{reporter="server",${SERVER},le="${le}"}`;
const opened = `knp_tcp_connections_opened_total{reporter="client",${CLIENT},${SERVER},server_port="8080"}`;
const failures = (reason: string): string =>
  `knp_tcp_connect_failures_total{reporter="client",${CLIENT},${SERVER},server_port="8080",reason="${reason}"}`;
const tcp = (name: string, labels = ''): string =>
  `knp_tcp_${name}{reporter="server",${CLIENT},${SERVER}${labels}}`;
const FIRST_LOOK =
  'The Workload dashboard shows which operations and clients; `kubenetprobe trace --errors` on its node shows single requests.';

const services: Scenario[] = [
  {
    alert: 'KnpErrorBudgetBurnFast',
    title: 'one request in five fails',
    series: { [request('')]: '0+48x20', [request(',error_type="500"')]: '0+12x20' },
    at: '15m',
    fires: [
      {
        labels: { ...server, protocol: 'http' },
        severity: 'critical',
        component: 'service',
        summary: 'shop/cart: 20% of http requests fail',
        description: `More than 0.144 of the requests failed over 5m and over 1h. At this pace a month's error budget is gone in two days. ${FIRST_LOOK}`,
      },
    ],
  },
  {
    alert: 'KnpErrorBudgetBurnFast',
    title: 'everything fails for five minutes after an hour without errors',
    series: { [request('')]: '0+60x60 3600x5', [request(',error_type="500"')]: '0x60 0+60x5' },
    at: '65m',
    fires: [],
  },
  {
    alert: 'KnpErrorBudgetBurnFast',
    title: 'a workload outside Kubernetes with too few requests to judge',
    series: {
      'http_server_request_duration_seconds_count{reporter="server",server_workload="nginx",error_type="500"}':
        '0+3x20',
    },
    at: '15m',
    fires: [],
  },
  {
    alert: 'KnpErrorBudgetBurnSlow',
    title: 'eight of a hundred requests fail, on and on',
    series: { [request('')]: '0+46x400', [request(',error_type="timeout"')]: '0+4x400' },
    at: '380m',
    fires: [
      {
        labels: { ...server, protocol: 'http' },
        severity: 'warning',
        component: 'service',
        summary: 'shop/cart: 8% of http requests fail, for hours',
        description: `More than 0.06 of the requests failed over 30m and over 6h. At this pace a month's error budget is gone in five days. ${FIRST_LOOK}`,
      },
    ],
  },
  {
    alert: 'KnpErrorBudgetBurnSlow',
    title: 'five of a hundred',
    series: { [request('')]: '0+57x400', [request(',error_type="500"')]: '0+3x400' },
    at: '380m',
    fires: [],
  },
  {
    alert: 'KnpLatencyHigh',
    title: 'half of the requests take more than a second',
    series: {
      [bucket('1')]: '0+30x20',
      [bucket('2.5')]: '0+60x20',
      [bucket('+Inf')]: '0+60x20',
      [request('')]: '0+60x20',
    },
    at: '18m',
    fires: [
      {
        labels: { ...server, protocol: 'http' },
        severity: 'warning',
        component: 'service',
        summary: 'shop/cart: p95 latency of http requests is 2.35s',
        description:
          'One request in twenty takes longer than that; the bound is 1 s. Compare the latency of what it calls (Workload dashboard, outbound) before looking into the workload itself.',
      },
    ],
  },
  {
    alert: 'KnpLatencyHigh',
    title: 'two of sixty take more than a second',
    series: {
      [bucket('1')]: '0+58x20',
      [bucket('2.5')]: '0+60x20',
      [bucket('+Inf')]: '0+60x20',
      [request('')]: '0+60x20',
    },
    at: '18m',
    fires: [],
  },
  {
    alert: 'KnpTrafficGone',
    title: 'two requests per second, then none and the series ends',
    series: { [request('')]: '0+120x120 stale' },
    at: '140m',
    fires: [
      {
        labels: { ...server, protocol: 'http' },
        severity: 'warning',
        component: 'service',
        summary: 'shop/cart: no traffic, 1.683 http requests/s before',
        description:
          'Less than 0.05 of the requests of 10m ago arrive. Either its clients lost the way to it, or it was removed on purpose. Look at failed connects to it, then at its clients.',
      },
    ],
  },
  {
    alert: 'KnpTrafficGone',
    title: 'a tenth of the traffic is left',
    series: { [request('')]: '0+120x120 14400+12x30' },
    at: '140m',
    fires: [],
  },
  {
    alert: 'KnpNoReadyBackend',
    title: 'every attempt is refused; earlier ones succeeded',
    series: { [opened]: '100x20', [failures('refused')]: '0+24x20', [failures('timed_out')]: '0+6x20' },
    at: '15m',
    fires: [
      {
        labels: { ...server, server_port: '8080' },
        severity: 'critical',
        component: 'service',
        summary: 'shop/cart port 8080: nobody answers',
        description:
          'All attempts to connect failed over 5m: 500m per second. Nothing listens there, or a Service has no ready endpoint: `kubectl get endpointslices`, `ss -ltn` on the server.',
      },
    ],
  },
  {
    alert: 'KnpNoReadyBackend',
    title: 'one attempt in thirty succeeds',
    series: { [opened]: '0+1x20', [failures('refused')]: '0+30x20' },
    at: '15m',
    fires: [],
  },
];

const network: Scenario[] = [
  {
    alert: 'KnpConnectFailures',
    title: 'one attempt in ten fails',
    series: { [opened]: '0+108x30', [failures('timed_out')]: '0+12x30' },
    at: '25m',
    fires: [
      {
        labels: { ...server, server_port: '8080' },
        severity: 'warning',
        component: 'tcp',
        summary: 'shop/cart port 8080: 10% of connection attempts fail',
        description:
          'More than 0.05 of the attempts failed over 5m. The reason is on the TCP health dashboard: refused means that nobody listens, timed_out that packets are lost or filtered, unreachable and no_route that there is no way, prohibited that a rule forbids it, address_unavailable that the client has no port left, cancelled that the client gave up first.',
      },
    ],
  },
  {
    alert: 'KnpConnectFailures',
    title: 'one in twenty-five',
    series: { [opened]: '0+288x30', [failures('refused')]: '0+12x30' },
    at: '25m',
    fires: [],
  },
  {
    alert: 'KnpRetransmits',
    title: 'twenty segments per megabyte, both sides together',
    series: {
      [tcp('retransmitted_segments_total')]: '0+100x30',
      [tcp('sent_bytes_total')]: '0+5000000x30',
      [tcp('retransmitted_segments_total').replace('"server"', '"client"')]: '0+20x30',
      [tcp('sent_bytes_total').replace('"server"', '"client"')]: '0+1000000x30',
    },
    at: '25m',
    fires: [
      {
        labels: pair,
        severity: 'warning',
        component: 'tcp',
        summary: 'shop/web → shop/cart: 20 segments retransmitted per megabyte',
        description:
          'More than 15: packets are lost on the way. If other pairs of the same node have it too, look at its link (`ethtool -S`, `ip -s link`); if not, at the ends.',
      },
    ],
  },
  {
    alert: 'KnpRetransmits',
    title: 'ten per megabyte',
    series: {
      [tcp('retransmitted_segments_total')]: '0+120x30',
      [tcp('sent_bytes_total')]: '0+12000000x30',
    },
    at: '25m',
    fires: [],
  },
  {
    alert: 'KnpListenDrops',
    title: 'a drop every ten seconds',
    series: { [`knp_tcp_listen_drops_total{${SERVER},server_port="8080"}`]: '0+6x20' },
    at: '15m',
    fires: [
      {
        labels: { ...server, server_port: '8080' },
        severity: 'warning',
        component: 'tcp',
        summary: 'shop/cart port 8080 drops 100m connection requests/s',
        description:
          'Its accept queue is full: the process accepts too slowly, or its backlog (and net.core.somaxconn) is too small. Clients see connects that take a second or time out.',
      },
    ],
  },
  {
    alert: 'KnpListenDrops',
    title: 'drops long ago',
    series: { [`knp_tcp_listen_drops_total{${SERVER},server_port="8080"}`]: '0+6x3 18x20' },
    at: '20m',
    fires: [],
  },
  {
    alert: 'KnpReceiverLimited',
    title: 'three quarters of a second per second',
    series: { [tcp('limited_seconds_total', ',by="receive_window"')]: '0+45x30' },
    at: '25m',
    fires: [
      {
        labels: pair,
        severity: 'warning',
        component: 'tcp',
        summary: 'shop/web → shop/cart: senders wait 750m s per second for the receiver',
        description:
          'The receiver reads more slowly than data arrives; the network is not the cause. Which end receives: reporter="client" means that the client sends and the server reads too slowly, and the other way round.',
      },
    ],
  },
  {
    alert: 'KnpReceiverLimited',
    title: 'a quarter; the rest waits for its own buffer',
    series: {
      [tcp('limited_seconds_total', ',by="receive_window"')]: '0+15x30',
      [tcp('limited_seconds_total', ',by="send_buffer"')]: '0+60x30',
    },
    at: '25m',
    fires: [],
  },
  {
    alert: 'KnpRttShift',
    title: '6 ms, a week ago 2 ms',
    interval: '15m',
    series: {
      [tcp('rtt_seconds_count')]: '0+300x690',
      [tcp('rtt_seconds_sum')]: '0+0.6x672 405+1.8x17',
    },
    at: '171h',
    fires: [
      {
        labels: pair,
        severity: 'warning',
        component: 'tcp',
        summary: 'shop/web → shop/cart: round-trip time is 3 times that of 1w ago',
        description:
          'More than 2 times, over 1h. Typical causes: a workload moved to another zone, a changed route, a congested link.',
      },
    ],
  },
  {
    alert: 'KnpRttShift',
    title: '3.5 ms, a week ago 2 ms',
    interval: '15m',
    series: {
      [tcp('rtt_seconds_count')]: '0+300x690',
      [tcp('rtt_seconds_sum')]: '0+0.6x672 404.25+1.05x17',
    },
    at: '171h',
    fires: [],
  },
];

const instance = { instance: 'node-1:9464' };
const agent: Scenario[] = [
  {
    alert: 'KnpAgentLoss',
    title: 'one stage loses, another does not',
    series: {
      'knp_agent_lost_total{instance="node-1:9464",stage="edge_table_full"}': '0+30x20',
      'knp_agent_lost_total{instance="node-1:9464",stage="log_lines"}': '0x20',
    },
    at: '15m',
    fires: [
      {
        labels: { ...instance, stage: 'edge_table_full' },
        severity: 'warning',
        component: 'agent',
        summary: 'Agent node-1:9464 loses 500m items/s at stage edge_table_full',
        description:
          'What it reports is incomplete. The runbook says what the stage means and which limit to raise.',
      },
    ],
  },
  {
    alert: 'KnpAgentLoss',
    title: 'what was lost at start',
    series: { 'knp_agent_lost_total{instance="node-1:9464",stage="edge_table_full"}': '0 5x20' },
    at: '15m',
    fires: [],
  },
  {
    alert: 'KnpCoverageLow',
    title: 'nine sockets of ten',
    series: { 'knp_agent_coverage_ratio{instance="node-1:9464"}': '0.9x30' },
    at: '20m',
    fires: [
      {
        labels: instance,
        severity: 'warning',
        component: 'agent',
        summary: "Agent node-1:9464 accounts for 90% of its host's sockets",
        description:
          'Less than 0.95: the rest is counted under `other` or not at all. Usually limits.edges or limits.sockets is too small for this host.',
      },
    ],
  },
  {
    alert: 'KnpCoverageLow',
    title: '97 of a hundred',
    series: { 'knp_agent_coverage_ratio{instance="node-1:9464"}': '0.97x30' },
    at: '20m',
    fires: [],
  },
  {
    alert: 'KnpProbeNotReady',
    title: 'one probe of two is not attached',
    series: {
      'knp_probe_ready{instance="node-1:9464",probe="http"}': '0x20',
      'knp_probe_ready{instance="node-1:9464",probe="tcp"}': '1x20',
    },
    at: '10m',
    fires: [
      {
        labels: { ...instance, probe: 'http' },
        severity: 'warning',
        component: 'agent',
        summary: 'Agent node-1:9464: probe http does not measure',
        description:
          "It is not attached, or was never read. `kubenetprobe doctor` on that host says why; so does the agent's log.",
      },
    ],
  },
  {
    alert: 'KnpProbeNotReady',
    title: 'it takes three minutes to get ready',
    series: { 'knp_probe_ready{instance="node-1:9464",probe="http"}': '0x3 1x20' },
    at: '7m',
    fires: [],
  },
  {
    alert: 'KnpMapNearlyFull',
    title: 'nine tenths',
    series: {
      'knp_bpf_map_entries{instance="node-1:9464",map="edges"}': '900x20',
      'knp_bpf_map_capacity{instance="node-1:9464",map="edges"}': '1000x20',
    },
    at: '15m',
    fires: [
      {
        labels: { ...instance, map: 'edges' },
        severity: 'warning',
        component: 'agent',
        summary: 'Agent node-1:9464: BPF map edges is 90% full',
        description:
          'More than 0.85. When it is full, new entries fold into `other` and are counted as lost. Raise the limit that sizes it before that.',
      },
    ],
  },
  {
    alert: 'KnpMapNearlyFull',
    title: 'eight tenths',
    series: {
      'knp_bpf_map_entries{instance="node-1:9464",map="edges"}': '800x20',
      'knp_bpf_map_capacity{instance="node-1:9464",map="edges"}': '1000x20',
    },
    at: '15m',
    fires: [],
  },
  {
    alert: 'KnpAgentDown',
    title: 'one agent of two',
    series: {
      'up{job="monitoring/kubenetprobe",instance="node-1:9464"}': '1 0x20',
      'up{job="monitoring/kubenetprobe",instance="node-2:9464"}': '1x20',
      'up{job="node-exporter",instance="node-1:9100"}': '0x20',
    },
    at: '10m',
    fires: [
      {
        labels: instance,
        severity: 'warning',
        component: 'agent',
        summary: 'Agent node-1:9464 cannot be scraped',
        description:
          'Its host is not observed. Is the pod or the process running, is the host up, does a network policy stand between?',
      },
    ],
  },
  {
    alert: 'KnpAgentDown',
    title: 'a restart of three minutes',
    series: { 'up{job="kubenetprobe",instance="node-1:9464"}': '1 0x3 1x20' },
    at: '6m',
    fires: [],
  },
  {
    alert: 'KnpAgentAbsent',
    title: 'all agents of one cluster are down, those of another are not',
    series: {
      'up{job="kubenetprobe",cluster="eu",instance="a"}': '0x20',
      'up{job="kubenetprobe",cluster="eu",instance="b"}': '0x20',
      'up{job="kubenetprobe",cluster="us",instance="c"}': '1x20',
    },
    at: '10m',
    fires: [
      {
        labels: { cluster: 'eu' },
        severity: 'critical',
        component: 'agent',
        summary: 'No agent reports',
        description:
          'Nothing is observed, so the other alerts of KubeNetProbe say nothing either. Is the DaemonSet there, and does Prometheus have a scrape job whose name matches .*kubenetprobe.*?',
      },
    ],
  },
  {
    alert: 'KnpAgentAbsent',
    title: 'there is no target at all',
    series: { 'up{job="node-exporter",instance="a"}': '1x20' },
    at: '10m',
    fires: [
      {
        labels: {},
        severity: 'critical',
        component: 'agent',
        summary: 'No agent reports',
        description:
          'Nothing is observed, so the other alerts of KubeNetProbe say nothing either. Is the DaemonSet there, and does Prometheus have a scrape job whose name matches .*kubenetprobe.*?',
      },
    ],
  },
  {
    alert: 'KnpAgentAbsent',
    title: 'one of two is up',
    series: {
      'up{job="kubenetprobe",cluster="eu",instance="a"}': '0x20',
      'up{job="kubenetprobe",cluster="eu",instance="b"}': '1x20',
    },
    at: '10m',
    fires: [],
  },
  {
    alert: 'KnpAgentCostly',
    title: 'agent and programs together are over the budget, neither alone',
    series: {
      'knp_agent_cpu_seconds_total{instance="node-1:9464",mode="user"}': '0+15x60',
      'knp_agent_cpu_seconds_total{instance="node-1:9464",mode="system"}': '0+9x60',
      'knp_bpf_program_seconds_total{instance="node-1:9464",program="core_state"}': '0+12x60',
    },
    at: '45m',
    fires: [
      {
        labels: instance,
        severity: 'warning',
        component: 'agent',
        summary: 'Agent node-1:9464 uses 600m processors',
        description:
          'More than 0.5 over 5m, its BPF programs included. The Agent dashboard shows which program or part; fewer names (detail: namespace) and a longer scrape interval cost less.',
      },
    ],
  },
  {
    alert: 'KnpAgentCostly',
    title: 'nine tenths of the budget, programs not measured',
    series: { 'knp_agent_cpu_seconds_total{instance="node-1:9464",mode="user"}': '0+27x60' },
    at: '45m',
    fires: [],
  },
];

export const SCENARIOS: readonly Scenario[] = [...services, ...network, ...agent];
