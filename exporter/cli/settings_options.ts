// The options by which commands take settings (`--config`, `--set`, and the schema's own flags), and the loading
// that follows. Used by every command that needs a configuration.
import { type Command, InvalidArgumentError } from 'commander';
import { type ConfigSources, type FlagValue, loadConfig, type Origins } from '../config/load.ts';
import type { Config } from '../config/schema.ts';
import { allowedText, settings } from '../config/settings.ts';
import { CliError, EXIT } from './exit.ts';

const PLACEHOLDERS: Readonly<Record<string, string>> = { '--listen': 'host:port' };

/** What the options of one command line gathered. */
export interface SettingsOptions {
  load(env?: ConfigSources['env']): Promise<{ config: Config; origins: Origins }>;
}

/** Adds the options; the returned object is filled while the command line is parsed. */
export function addSettingsOptions(command: Command): SettingsOptions {
  const flags: FlagValue[] = [];
  let file: string | undefined;
  command.option('-c, --config <file>', 'YAML file with settings (or KNP_CONFIG)', (value: string) => {
    file = value;
    return value;
  });
  for (const { flag, path, node } of settings()) {
    if (flag === undefined) continue;
    const placeholder = PLACEHOLDERS[flag] ?? 'value';
    const help = node.enum === undefined && placeholder === 'value' ? `: ${allowedText(node)}` : '';
    const values = node.enum === undefined ? help : `: ${node.enum.join(', ')}`;
    command.option(`${flag} <${placeholder}>`, `setting ${path}${values}`, (value: string) => {
      flags.push({ place: flag, path, value });
      return value;
    });
  }
  command.option(
    '--set <name=value>',
    'any setting, repeatable: --set limits.edges=65536',
    (text: string) => {
      const separator = text.indexOf('=');
      if (separator <= 0)
        throw new InvalidArgumentError('it must be NAME=VALUE, such as limits.edges=65536.');
      const path = text.slice(0, separator);
      flags.push({ place: '--set', path, value: text.slice(separator + 1) });
      return text;
    },
  );
  return {
    async load(env = process.env) {
      const result = await loadConfig({ file, env, flags });
      if (result.ok) return result;
      const count = result.problems.length;
      const heading = count === 1 ? '' : `the configuration has ${count} mistakes\n`;
      throw new CliError(`${heading}${result.message}`, EXIT.usage);
    },
  };
}
