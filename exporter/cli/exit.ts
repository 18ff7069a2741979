// How the program ends: exit codes, and the error that carries one sentence for a person. Used by all commands.
import { StartError } from '../agent/start_error.ts';

/** 0: done. 1: it could not do what was asked. 2: it was asked wrongly (arguments, configuration). */
export const EXIT = { ok: 0, failure: 1, usage: 2 } as const;
export type ExitCode = (typeof EXIT)[keyof typeof EXIT];

/** An expected failure. `message` says what is wrong and what to do; it is printed without a stack. */
export class CliError extends Error {
  override readonly name = 'CliError';
  readonly exitCode: ExitCode;

  constructor(message: string, exitCode: ExitCode = EXIT.failure, options?: ErrorOptions) {
    super(message, options);
    this.exitCode = exitCode;
  }
}

/** The agent's own refusal to start as the program's; any other error as it is. */
export function asCliError(error: unknown): unknown {
  if (!(error instanceof StartError)) return error;
  const exitCode = error.by === 'configuration' ? EXIT.usage : EXIT.failure;
  return new CliError(error.message, exitCode, { cause: error });
}
