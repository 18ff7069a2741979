// `kubenetprobe config`: prints the configuration's schema, its defaults, what applies now, and its page of docs.
import type { Command } from 'commander';
import { addSettingsOptions } from '../settings_options.ts';

export function define(command: Command): void {
  command
    .command('schema')
    .description('Print the JSON Schema (draft 2020-12) of the configuration file.')
    .action(async () => {
      const { jsonSchema } = await import('../../config/settings.ts');
      process.stdout.write(`${JSON.stringify(jsonSchema(), null, 2)}\n`);
    });
  command
    .command('defaults')
    .description('Print a configuration file that holds every default.')
    .action(async () => {
      const [{ renderDefaults }, { defaultConfig }] = await Promise.all([
        import('../../config/docs.ts'),
        import('../../config/schema.ts'),
      ]);
      process.stdout.write(renderDefaults(defaultConfig()));
    });
  const effective = command
    .command('effective')
    .description(
      'Check the configuration and print what applies, with the origin of each setting; secrets hidden.',
    )
    .option('--json', 'as JSON, without the origins');
  const settings = addSettingsOptions(effective);
  effective.action(async ({ json }: { json?: boolean }) => {
    const { config, origins } = await settings.load();
    const [{ renderEffective }, { redact }] = await Promise.all([
      import('../../config/docs.ts'),
      import('../../config/headers.ts'),
    ]);
    const text =
      json === true ? `${JSON.stringify(redact(config), null, 2)}\n` : renderEffective(config, origins);
    process.stdout.write(text);
  });
  command
    .command('docs')
    .description('Print the reference of all settings as Markdown (docs/configuration.md).')
    .action(async () => {
      const { renderDocs } = await import('../../config/docs.ts');
      process.stdout.write(renderDocs());
    });
}
