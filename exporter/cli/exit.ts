// How the program ends: exit codes, and the error that carries one sentence for a person. Used by all commands.

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
