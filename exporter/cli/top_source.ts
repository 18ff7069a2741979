// Where `top` reads its edges: a running agent's /metrics, or a measurement of its own.
import type { Config } from '../config/schema.ts';
import { AgentUnreachable, agentUrl, fetchText, localUrl } from './agent_client.ts';
import { isEdgeMetric } from './edges.ts';
import { CliError } from './exit.ts';
import { ExpositionError, parseExposition, type TextSample } from './prometheus_text.ts';

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

const LOST = 'knp_agent_lost_total';
/** Every agent has this one, so its absence means that something else listens there. */
const MARK = 'knp_build_info';

/** The part of an exposition that `top` needs. */
export function readingOf(text: string, atMillis: number): Reading {
  const samples = parseExposition(text, (name) => isEdgeMetric(name) || name === LOST);
  const lost = new Map<string, number>();
  for (const { name, labels, value } of samples) {
    if (name === LOST && value > 0) lost.set(labels.stage ?? '', (lost.get(labels.stage ?? '') ?? 0) + value);
  }
  return { samples: samples.filter(({ name }) => name !== LOST), lost, atMillis };
}

function agentSource(base: URL): EdgeSource {
  return {
    name: `agent at ${base.origin}`,
    async read() {
      const text = await fetchText(base, 'metrics');
      const atMillis = performance.now();
      const foreign = () => new AgentUnreachable(`${base.href} is not an agent of KubeNetProbe`);
      if (!text.includes(MARK)) throw foreign();
      try {
        return readingOf(text, atMillis);
      } catch (error) {
        throw error instanceof ExpositionError ? foreign() : error;
      }
    },
    async close() {},
  };
}

/** The agent named by `from`; else the one of this host; else, as root, a measurement that lasts until close. */
export async function openEdgeSource(config: Config, from: string | undefined): Promise<EdgeSource> {
  if (from !== undefined) return agentSource(agentUrl(from));
  const local = localUrl(config.listen);
  const agent = agentSource(local);
  try {
    await agent.read();
    return agent;
  } catch (error) {
    if (!(error instanceof AgentUnreachable)) throw error;
  }
  const { measure } = await import('./measure.ts');
  try {
    return await measure(config);
  } catch (error) {
    if (!(error instanceof CliError)) throw error;
    throw new CliError(`no agent answers at ${local.origin} (--from names another), and: ${error.message}`);
  }
}
