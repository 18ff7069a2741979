// Why the agent cannot start, in one sentence for a person. The command line prints it and chooses the exit code.

/** An expected failure. `by`: the host or its kernel cannot do it, or the configuration asks for what does not exist. */
export class StartError extends Error {
  override readonly name = 'StartError';
  readonly by: 'host' | 'configuration';

  constructor(message: string, by: 'host' | 'configuration' = 'host', options?: ErrorOptions) {
    super(message, options);
    this.by = by;
  }
}
