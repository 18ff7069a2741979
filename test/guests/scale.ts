// How a kernel test adapts to a guest, whose processor is emulated and 10 to 30 times slower. Imported by test/kernel.

/** How many times slower than usual this machine is: 1 natively. */
export const SCALE = Math.max(1, Number(process.env.KNP_SCALE ?? 1));

/** The guest's kernel series (6.1, 6.12, 7), undefined natively. */
export const GUEST: string | undefined = process.env.KNP_GUEST;

/** A count of connections, requests, bytes: divided in a guest, at least `least`. */
export function scaled(count: number, least = 1): number {
  return Math.max(least, Math.ceil(count / SCALE));
}

/** A time limit in milliseconds: multiplied in a guest. */
export function patience(millis: number): number {
  return millis * SCALE;
}

/** Skips the test in a guest, with the reason: `nativeOnly(context, 'measures time')`. */
export function nativeOnly(context: { skip: (note?: string) => never }, reason: string): void {
  if (GUEST !== undefined) context.skip(`native only: ${reason}`);
}
