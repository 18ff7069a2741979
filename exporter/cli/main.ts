// Entry point of `kubenetprobe`: parses the command line and hands over to one command, whose module is loaded
// only when it is asked for. Started by bin/kubenetprobe.
import { Command, CommanderError } from 'commander';
import { version } from '../agent/version.ts';
import { asCliError, CliError, EXIT } from './exit.ts';
import { printable } from './text.ts';

/** A module of commands/: adds its arguments, options and action to a command. */
interface CommandModule {
  define(command: Command): void | Promise<void>;
}

interface CommandEntry {
  summary: string;
  load: () => Promise<CommandModule>;
}

const COMMANDS: Readonly<Record<string, CommandEntry>> = {
  run: {
    summary: 'measure this host and serve /metrics',
    load: () => import('./commands/run.ts'),
  },
  doctor: {
    summary: 'say what works on this host, what does not, and why',
    load: () => import('./commands/doctor.ts'),
  },
  top: {
    summary: 'show who talks to whom, live',
    load: () => import('./commands/top.ts'),
  },
  map: {
    summary: 'show which workloads talk to which, as a table or a graph',
    load: () => import('./commands/map.ts'),
  },
  trace: {
    summary: 'show sampled HTTP requests, live',
    load: () => import('./commands/trace.ts'),
  },
  metrics: {
    summary: 'print the reference of all metrics',
    load: () => import('./commands/metrics.ts'),
  },
  config: {
    summary: 'print the configuration: schema, defaults, effective, docs',
    load: () => import('./commands/config.ts'),
  },
};

const EXAMPLES = `
Examples:
  kubenetprobe run                                measure, serve http://0.0.0.0:9464/metrics
  kubenetprobe run --config agent.yaml --listen 127.0.0.1:9464
  kubenetprobe doctor                             what works on this host and why not the rest
  kubenetprobe top --by retransmits               who talks to whom, in the terminal
  kubenetprobe config effective                   which settings apply and where they come from

Exit codes: 0 done, 1 it failed, 2 wrong arguments or configuration.`;

async function buildProgram(argv: readonly string[]): Promise<Command> {
  const program = new Command('kubenetprobe')
    .description('Watches the network of a Linux host or Kubernetes node with eBPF.')
    .version(version(), '--version', 'print the version')
    .helpOption('-h, --help', 'print this help')
    .addHelpText('after', EXAMPLES)
    .showSuggestionAfterError()
    .enablePositionalOptions()
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'kubenetprobe: ')) });
  for (const [name, { summary, load }] of Object.entries(COMMANDS)) {
    const command = program.command(name).description(`${summary[0]?.toUpperCase()}${summary.slice(1)}.`);
    command.summary(summary).copyInheritedSettings(program);
    // A command's own options need its module; those of the others are not looked at.
    if (argv.includes(name)) await (await load()).define(command);
  }
  return program;
}

function report(error: unknown): void {
  if (error instanceof CommanderError) {
    // Commander has printed the message, or the help that was asked for.
    process.exitCode = error.exitCode === 0 ? EXIT.ok : EXIT.usage;
  } else if (error instanceof CliError) {
    const lines = error.message.split('\n').map(printable);
    process.stderr.write(`kubenetprobe: ${lines.join('\n')}\n`);
    process.exitCode = error.exitCode;
  } else {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    process.stderr.write(`kubenetprobe: unexpected error: ${text}\n`);
    process.exitCode = EXIT.failure;
  }
}

/** Runs one command line. Never rejects; the outcome is `process.exitCode`. */
export async function main(argv: readonly string[] = process.argv.slice(2)): Promise<void> {
  // The reader of a pipe went away (`… | head`): there is nobody left to tell.
  process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));
  try {
    const program = await buildProgram(argv);
    if (argv.length === 0) {
      program.outputHelp({ error: true });
      process.exitCode = EXIT.usage;
      return;
    }
    await program.parseAsync([...argv], { from: 'user' });
  } catch (error) {
    report(asCliError(error));
  }
}

await main();
