// `kubenetprobe run`: the agent. Measures until it is told to stop.
import type { Command } from 'commander';
import { addSettingsOptions } from '../settings_options.ts';

const EXAMPLES = `
Needs root, or CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN. SIGTERM and SIGINT end it cleanly; a second one ends it at once.

Examples:
  kubenetprobe run
  kubenetprobe run --listen 127.0.0.1:9464 --log-level debug
  KNP_DETAIL=pod kubenetprobe run --config /etc/kubenetprobe.yaml`;

export function define(command: Command): void {
  const settings = addSettingsOptions(command);
  command.addHelpText('after', EXAMPLES).action(async () => {
    const { config } = await settings.load();
    const { runAgent } = await import('../../agent/agent.ts');
    await runAgent(config);
  });
}
