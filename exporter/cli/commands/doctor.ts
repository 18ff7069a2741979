// `kubenetprobe doctor`: what works on this host, what does not, and why. Asks the running agent about its probes;
// where none runs, loads them for a moment.
import type { Command } from 'commander';
import type { AgentStatus } from '../../agent/status.ts';
import type { Config } from '../../config/schema.ts';
import { AgentUnreachable, agentUrl, fetchText, localUrl } from '../agent_client.ts';
import { kernelChecks } from '../checks.ts';
import { type Diagnosis, renderDiagnosis } from '../doctor_view.ts';
import { EXIT } from '../exit.ts';
import { addSettingsOptions } from '../settings_options.ts';

interface DoctorOptions {
  json?: true;
  from?: string;
}

const EXAMPLES = `
Exit code 0: nothing failed. What is marked -- is missing, and the agent works without it.

Examples:
  sudo kubenetprobe doctor
  kubenetprobe doctor --json | jq '.agent.probes[].hooks'`;

export function define(command: Command): void {
  command
    .option('--json', 'as JSON')
    .option('--from <url>', 'ask this agent: http://HOST:PORT')
    .addHelpText('after', EXAMPLES);
  const settings = addSettingsOptions(command);
  command.action(async ({ json, from }: DoctorOptions) => {
    const { config } = await settings.load();
    const diagnosis = await diagnose(config, from);
    const width = process.stdout.isTTY ? process.stdout.columns : 200;
    process.stdout.write(
      json === true ? `${JSON.stringify(diagnosis, null, 2)}\n` : renderDiagnosis(diagnosis, width),
    );
    if (!diagnosis.ok) process.exitCode = EXIT.failure;
  });
}

async function diagnose(config: Config, from: string | undefined): Promise<Diagnosis> {
  const running = await runningAgent(
    from === undefined ? localUrl(config.listen) : agentUrl(from),
    from !== undefined,
  );
  const checks = kernelChecks(config);
  const impossible = checks.some(({ state }) => state === 'failed');
  let { source, agent } = running ?? { source: 'none runs, none could be loaded', agent: undefined };
  if (agent === undefined && !impossible) {
    source = 'loaded for this diagnosis (no agent runs)';
    agent = await loadedForAMoment(config);
  }
  const sick = agent?.probes.some(({ state }) => state === 'failed') ?? false;
  // A running agent proves that it can work, even where this process may not.
  const ok = !sick && (running !== undefined || !impossible);
  return { ok, source, checks, agent };
}

/** Undefined where no agent answers, unless it was named: then that is an error. */
async function runningAgent(
  base: URL,
  named: boolean,
): Promise<{ source: string; agent: AgentStatus | undefined } | undefined> {
  try {
    const agent = JSON.parse(await fetchText(base, 'api/status', 3000)) as AgentStatus;
    if (!Array.isArray(agent.probes)) return undefined;
    return { source: `agent at ${base.origin}, process ${agent.pid}`, agent };
  } catch (error) {
    if (named && error instanceof AgentUnreachable) throw error;
    return undefined;
  }
}

async function loadedForAMoment(config: Config): Promise<AgentStatus> {
  const [{ startMeasurement }, { SILENT }, { agentStatus }] = await Promise.all([
    import('../../agent/measurement.ts'),
    import('../../telemetry/log.ts'),
    import('../../agent/agent_status.ts'),
  ]);
  const measurement = await startMeasurement(config, SILENT);
  try {
    await measurement.collector.collect();
    return agentStatus(measurement, new Date());
  } finally {
    await measurement.close();
  }
}
