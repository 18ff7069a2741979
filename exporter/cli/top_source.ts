// Where `top` reads its edges: a running agent's /metrics, or a measurement of its own.
import type { Config } from '../config/schema.ts';
import { AgentUnreachable, agentUrl, fetchText, localUrl } from './agent_client.ts';
import { CliError } from './exit.ts';
import { ExpositionError } from './prometheus_text.ts';
import { type EdgeSource, readingOf } from './reading.ts';

/** Every agent has this one, so its absence means that something else listens there. */
const MARK = 'knp_build_info';

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
