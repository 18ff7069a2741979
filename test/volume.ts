// How much a test does: `make test` proves each thing with as much as it takes, `make test-full` with the whole number.

/** `make test-full` is running. */
const FULL = process.env.KNPTEST_FULL === '1';

/** The size of a load: the whole number under `make test-full`, else `fraction` of it. */
export function sized(full: number, fraction: number): number {
  return FULL ? full : Math.round(full * fraction);
}
