import { describe, expect, it } from 'vitest';
import { retryDelayMillis } from '../../../exporter/telemetry/spans/retry_info.ts';
import { statusWithRetry } from './retry_status.ts';

describe('RetryInfo', () => {
  it.each([
    [0, 0, 0],
    [1, 500_000_000, 1500],
    [3600, 0, 3_600_000],
    [0, 1, 1],
  ])('%i s and %i ns', (seconds, nanos, millis) => {
    expect(retryDelayMillis(statusWithRetry(seconds, nanos))).toBe(millis);
  });

  it('a negative delay is none', () => {
    expect(retryDelayMillis(statusWithRetry(-5, 0))).toBe(0);
  });

  it('a status without RetryInfo, or nothing at all', () => {
    expect(retryDelayMillis(Buffer.from([0x08, 0x0e]))).toBeUndefined();
    expect(retryDelayMillis(Buffer.alloc(0))).toBeUndefined();
  });

  it('any cut and any changed byte is survived', () => {
    const whole = statusWithRetry(300, 7);
    for (let length = 0; length < whole.length; length++)
      expect([undefined, 0]).toContain(retryDelayMillis(whole.subarray(0, length)));
    for (let at = 0; at < whole.length; at++)
      for (let byte = 0; byte < 256; byte++) {
        const changed = Buffer.from(whole);
        changed[at] = byte;
        const delay = retryDelayMillis(changed);
        expect(delay === undefined || (delay >= 0 && Number.isFinite(delay))).toBe(true);
      }
  });

  it('lengths beyond the end and endless varints end the reading', () => {
    expect(
      retryDelayMillis(Buffer.from([0x1a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01])),
    ).toBeUndefined();
    expect(retryDelayMillis(Buffer.alloc(1000, 0xff))).toBeUndefined();
  });
});
