// How a kernel test adapts to a guest, whose processor is emulated and 10 to 30 times slower. Imported by test/kernel.

/** The share of the work that a test should do here: 1 natively, 0.05 in an emulated guest. */
export const SCALE = Number(process.env.KNPTEST_SCALE ?? 1);

/** The guest's kernel series (6.1, 6.12, 7), undefined natively. */
export const GUEST: string | undefined = process.env.KNPTEST_GUEST;

/** A count of connections, requests or bytes: a share of it in a guest, at least `least`. */
export function scaled(count: number, least = 1): number {
  return Math.max(least, Math.round(count * SCALE));
}

/** A time limit in milliseconds: as many times longer in a guest. */
export function patience(millis: number): number {
  return Math.round(millis / SCALE);
}

/** Skips the test in a guest, with the reason: `nativeOnly(context, 'measures time')`. */
export function nativeOnly(context: { skip: (note?: string) => never }, reason: string): void {
  if (GUEST !== undefined) context.skip(`native only: ${reason}`);
}
