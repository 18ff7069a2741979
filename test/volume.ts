// How much a test does: `make test` proves each thing with as much as it takes, `make test-full` with the whole number.

/** `make test-full` is running, and not in a guest, whose emulated processor has enough to do (guests/scale.ts). */
const FULL = process.env.KNPTEST_FULL === '1' && process.env.KNPTEST_GUEST === undefined;

/** The size of a load: the whole number under `make test-full`, else `fraction` of it. */
export function sized(full: number, fraction: number): number {
  return FULL ? full : Math.round(full * fraction);
}
