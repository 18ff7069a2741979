// Sorts the samples of an exposition by edge, side and what they mean, with the descriptors of transports and protocols.
// Used by edges.ts, which makes rows of them.
import { REQUEST_PROTOCOLS, TRANSPORTS } from '../probes/descriptors.ts';
import { labelName, prometheusName } from '../telemetry/catalogue.ts';
import { ERROR_ATTRIBUTE, type RequestProtocol, type Side } from '../telemetry/requests/protocol.ts';
import type { TransportTraffic } from '../telemetry/traffic.ts';
import type { TextSample } from './prometheus_text.ts';

/** Whose metrics are read. */
export interface EdgeDescriptors {
  readonly transports: readonly TransportTraffic[];
  readonly protocols: readonly RequestProtocol[];
}

/** Those of the registered probes. */
const REGISTERED: EdgeDescriptors = { transports: TRANSPORTS, protocols: REQUEST_PROTOCOLS };

/** Figures of an edge that do not depend on the transport. */
export type TrafficField =
  | 'sent'
  | 'received'
  | 'opened'
  | 'open'
  | 'failures'
  | 'retransmitted'
  | 'roundTripSum'
  | 'roundTripCount';

/** Requests of one protocol, as one side counted them. */
export interface RequestCounts {
  count: number;
  errors: number;
  /** Upper bound as text → requests, cumulative. */
  readonly buckets: Map<string, number>;
}

/** What one side of an edge reported. */
export interface EdgeView {
  readonly traffic: Map<TrafficField, number>;
  /** By the protocol's name. */
  readonly requests: Map<string, RequestCounts>;
}

/** One pair of workloads and port. */
export interface EdgeSamples {
  readonly labels: Readonly<Record<string, string>>;
  readonly views: Map<string, EdgeView>;
}

interface RequestSample {
  readonly protocol: string;
  readonly part: 'count' | 'bucket';
  /** Labels that the sample must have. */
  readonly only: readonly (readonly [label: string, value: string])[];
}

const KEY_LABELS = [
  'client_namespace',
  'client_kind',
  'client_workload',
  'server_namespace',
  'server_kind',
  'server_workload',
  'server_service',
  'server_port',
] as const;
const ERROR_LABEL = labelName(ERROR_ATTRIBUTE);
const SIDES: readonly Side[] = ['client', 'server'];

/** Knows what each sample of an exposition is about. */
export class EdgeReader {
  readonly protocols: readonly RequestProtocol[];
  readonly #traffic = new Map<string, TrafficField>();
  readonly #requests = new Map<string, RequestSample[]>();

  constructor({ transports, protocols }: EdgeDescriptors = REGISTERED) {
    this.protocols = protocols;
    for (const transport of transports) this.#learnTransport(transport);
    for (const protocol of protocols) this.#learnProtocol(protocol);
  }

  #learnTransport({ name: _, roundTrip, ...metrics }: TransportTraffic): void {
    for (const [field, metric] of Object.entries(metrics))
      if (metric !== undefined) this.#traffic.set(prometheusName(metric), field as keyof typeof metrics);
    if (roundTrip === undefined) return;
    this.#traffic.set(`${prometheusName(roundTrip)}_sum`, 'roundTripSum');
    this.#traffic.set(`${prometheusName(roundTrip)}_count`, 'roundTripCount');
  }

  #learnProtocol({ name: protocol, durations, only = {} }: RequestProtocol): void {
    const labels = Object.entries(only).map(([attribute, value]) => [labelName(attribute), value] as const);
    for (const side of SIDES)
      for (const part of ['count', 'bucket'] as const) {
        const name = `${prometheusName(durations[side])}_${part}`;
        // Several protocols may share a metric: labels tell them apart.
        this.#requests.set(name, [...(this.#requests.get(name) ?? []), { protocol, part, only: labels }]);
      }
  }

  /** True for the samples that `group` needs. */
  wants(name: string): boolean {
    return this.#traffic.has(name) || this.#requests.has(name);
  }

  group(samples: readonly TextSample[]): Map<string, EdgeSamples> {
    const edges = new Map<string, EdgeSamples>();
    for (const sample of samples) {
      if (!this.wants(sample.name)) continue;
      const { labels } = sample;
      const key = JSON.stringify(KEY_LABELS.map((label) => labels[label] ?? ''));
      let edge = edges.get(key);
      if (edge === undefined) {
        edge = { labels, views: new Map() };
        edges.set(key, edge);
      }
      const reporter = labels.reporter ?? '';
      let view = edge.views.get(reporter);
      if (view === undefined) {
        view = { traffic: new Map(), requests: new Map() };
        edge.views.set(reporter, view);
      }
      this.#add(view, sample);
    }
    return edges;
  }

  /** Failures have a reason, requests a route, pods a name of their own: a view holds their sum. */
  #add({ traffic, requests }: EdgeView, { name, labels, value }: TextSample): void {
    const field = this.#traffic.get(name);
    if (field !== undefined) traffic.set(field, (traffic.get(field) ?? 0) + value);
    const request = this.#requests
      .get(name)
      ?.find(({ only }) => only.every(([label, wanted]) => labels[label] === wanted));
    if (request === undefined) return;
    let counts = requests.get(request.protocol);
    if (counts === undefined) {
      counts = { count: 0, errors: 0, buckets: new Map() };
      requests.set(request.protocol, counts);
    }
    if (request.part === 'bucket') {
      const le = labels.le ?? '';
      counts.buckets.set(le, (counts.buckets.get(le) ?? 0) + value);
    } else {
      counts.count += value;
      if ((labels[ERROR_LABEL] ?? '') !== '') counts.errors += value;
    }
  }
}

/** Reads what the registered probes count. */
export const EDGES = new EdgeReader();
