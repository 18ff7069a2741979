// What `top` needs of one collection, and where it may come from. Implemented by top_source.ts (a running agent) and
// measure.ts (this process).
import { type MetricName, metricDefinition, prometheusName } from '../telemetry/catalogue.ts';
import { EDGES } from './edge_samples.ts';
import { parseExposition, type TextSample } from './prometheus_text.ts';

/** One collection of the metrics that `top` shows. */
export interface Reading {
  samples: readonly TextSample[];
  /** What the agent lost since its start, by stage; stages without loss are left out. */
  lost: ReadonlyMap<string, number>;
  /** On a clock that only goes forward. */
  atMillis: number;
}

export interface EdgeSource {
  /** For people: "agent at http://127.0.0.1:9464". */
  name: string;
  /** Throws a {@link CliError} where there is nothing to read. */
  read(): Promise<Reading>;
  close(): Promise<void>;
}

const named = (name: MetricName) => prometheusName(metricDefinition(name));
const LOST = named('knp.agent.lost');

/** The part of an exposition that `top` needs. */
export function readingOf(text: string, atMillis: number): Reading {
  const samples = parseExposition(text, (name) => EDGES.wants(name) || name === LOST);
  const lost = new Map<string, number>();
  for (const { name, labels, value } of samples) {
    if (name === LOST && value > 0) lost.set(labels.stage ?? '', (lost.get(labels.stage ?? '') ?? 0) + value);
  }
  return { samples: samples.filter(({ name }) => name !== LOST), lost, atMillis };
}
