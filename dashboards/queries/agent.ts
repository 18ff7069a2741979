// Queries over the agent's own metrics, and over the alerts. Called by the dashboards.
import {
  add,
  atom,
  bottomk,
  count,
  divide,
  equals,
  max,
  min,
  multiply,
  orZeroOf,
  quantile,
  rate,
  sum,
  topk,
  type Vector,
} from '../promql/expression.ts';
import { variable } from '../promql/matchers.ts';
import { ALERT_LABEL, type LabelOf, type Range } from '../promql/names.ts';
import { counter, gauge, histogram } from '../promql/select.ts';
import { AGENT_SCOPE, LINES } from './scope.ts';

const PANEL: Range = '$__rate_interval';
const own = AGENT_SCOPE;

export const agents = (): Vector<never> => count(gauge('knp.build.info', own));
export const builds = () =>
  count(gauge('knp.build.info', own), ['version', 'runtime_version', 'kernel_release', 'arch']);
export const hooks = () => count(gauge('knp.probe.info', own), ['probe', 'hook']);
export const probesNotReady = (): Vector<never> =>
  orZeroOf(count(equals(gauge('knp.probe.ready', own), 0)), agents());
export const coverage = <K extends 'instance' = never>(by: readonly K[] = []): Vector<K> =>
  bottomk(LINES, min(gauge('knp.agent.coverage_ratio', own), by));

type Lost = LabelOf<'knp.agent.lost'>;
export const lost = <K extends Lost = never>(by: readonly K[] = []): Vector<K> =>
  sum(rate(counter('knp.agent.lost', own), PANEL), by);

/** Processors in use by the agent process. */
export const agentCpu = <K extends LabelOf<'knp.agent.cpu'> = never>(by: readonly K[] = []): Vector<K> =>
  sum(rate(counter('knp.agent.cpu', own), PANEL), by);
/** Processors in use by BPF programs. */
export const bpfCpu = <K extends LabelOf<'knp.bpf.program.seconds'> = never>(
  by: readonly K[] = [],
): Vector<K> => topk(LINES, sum(rate(counter('knp.bpf.program.seconds', own), PANEL), by));
export const bpfRuns = () => topk(LINES, sum(rate(counter('knp.bpf.program.runs', own), PANEL), ['program']));
/** Seconds that one run of a program takes. */
export const bpfSecondsPerRun = () =>
  topk(
    LINES,
    divide(
      sum(rate(counter('knp.bpf.program.seconds', own), PANEL), ['program']),
      sum(rate(counter('knp.bpf.program.runs', own), PANEL), ['program']),
    ),
  );
/** The fullest map of each name, 0 to 1. */
export const mapFill = () =>
  topk(LINES, max(divide(gauge('knp.bpf.map.entries', own), gauge('knp.bpf.map.capacity', own)), ['map']));

export const residentMemory = () => topk(LINES, max(gauge('knp.agent.memory.resident', own), ['instance']));
export const heapMemory = () => topk(LINES, max(gauge('knp.agent.memory.heap', own), ['instance']));
export const openFiles = () => topk(LINES, max(gauge('knp.agent.open_files', own), ['instance']));
export const eventLoopHold = () =>
  topk(LINES, max(gauge('knp.agent.event_loop.hold_max', own), ['instance']));
export const eventLoopHoldP99 = () =>
  topk(LINES, max(gauge('knp.agent.event_loop.hold_p99', own), ['instance']));
/** Milliseconds since the Unix epoch, as Grafana's date units want them. */
export const startTime = (): Vector<never> => multiply(min(gauge('knp.agent.start_time', own)), 1000);

export const collectionQuantile = (q: number): Vector<never> =>
  quantile(q, sum(rate(histogram('knp.agent.collection.duration', own).bucket, PANEL), ['le']));
export const scrapeQuantile = (q: number): Vector<never> =>
  quantile(q, sum(rate(histogram('knp.agent.scrape.duration', own).bucket, PANEL), ['le']));
export const scrapes = () => sum(rate(counter('knp.agent.scrapes', own), PANEL), ['outcome']);
export const sourceSeconds = () => max(gauge('knp.agent.source.duration', own), ['source']);
export const sourceFailures = () => sum(rate(counter('knp.agent.source.failures', own), PANEL), ['source']);

export const series = () => topk(LINES, sum(gauge('knp.agent.series', own), ['metric']));
export const seriesFolded = () => topk(LINES, sum(gauge('knp.agent.series_folded', own), ['metric']));
/** How near the largest metric of an agent is to the limit of series, 0 to 1. */
export const seriesFill = () =>
  topk(
    LINES,
    divide(
      max(gauge('knp.agent.series', own), ['instance']),
      max(gauge('knp.agent.series_limit', own), ['instance']),
    ),
  );

export const routes = () => topk(LINES, max(gauge('knp.http.routes', own), ['instance']));
export const httpEvents = () => sum(rate(counter('knp.http.events', own), PANEL), ['kind']);
export const unparsed = () => sum(rate(counter('knp.http.unparsed_connections', own), PANEL), ['reason']);

export const identityEntries = () => sum(gauge('knp.identity.entries', own), ['kind']);
export const unresolved = () => sum(rate(counter('knp.identity.unresolved', own), PANEL), ['kind']);
export const kubernetesObjects = () => sum(gauge('knp.kubernetes.objects', own), ['resource']);
export const watchRestarts = () =>
  sum(rate(counter('knp.kubernetes.watch_restarts', own), PANEL), ['resource']);
export const notSynced = () =>
  orZeroOf(
    count(equals(gauge('knp.kubernetes.synced', own), 0), ['resource']),
    count(gauge('knp.kubernetes.synced', own), ['resource']),
  );

export const spansCreated = () => sum(rate(counter('knp.spans.created', own), PANEL), ['kind']);
export const spansExported = (): Vector<never> => sum(rate(counter('knp.spans.exported', own), PANEL));
export const spansDropped = () => sum(rate(counter('knp.spans.dropped', own), PANEL), ['reason']);
export const spanQueueFill = (): Vector<never> =>
  max(divide(gauge('knp.spans.queued', own), gauge('knp.spans.queue_capacity', own)));
export const otlpExports = () => sum(rate(counter('knp.otlp.exports', own), PANEL), ['signal', 'outcome']);
export const otlpQuantile = (q: number): Vector<'signal'> =>
  quantile(q, sum(rate(histogram('knp.otlp.export.duration', own).bucket, PANEL), ['signal', 'le']));
export const otlpRetries = () => sum(rate(counter('knp.otlp.retries', own), PANEL), ['signal']);
export const otlpRejected = () => sum(rate(counter('knp.otlp.rejected_items', own), PANEL), ['signal']);

/** Processors in use by agent and programs, the most expensive agents first. */
export const cost = () =>
  topk(
    LINES,
    add(
      sum(rate(counter('knp.agent.cpu', own), PANEL), ['instance']),
      orZeroOf(
        sum(rate(counter('knp.bpf.program.seconds', own), PANEL), ['instance']),
        sum(rate(counter('knp.agent.cpu', own), PANEL), ['instance']),
      ),
    ),
  );

const clusterMatch = variable('cluster');
const firing = `ALERTS{${ALERT_LABEL.name}="${ALERT_LABEL.value}",alertstate="firing",cluster${clusterMatch.operator}"${clusterMatch.text}"}`;

/** Alerts of this project that are firing: one series each, with all their labels. */
export const firingAlerts = (): Vector<'alertname' | 'severity'> => atom(firing);
/** How many are firing, 0 when none; counts over what the agents report. */
export const firingCount = (): Vector<never> =>
  orZeroOf(count(firingAlerts()), count(gauge('knp.build.info', { cluster: variable('cluster') })));
