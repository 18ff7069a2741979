import { expect, test } from 'vitest';
import { silence } from '../../../exporter/kernel/conntrack.ts';

test('a kernel that was told to say nothing of new connections', () => {
  expect(silence(() => '0\n')).toBe('net.netfilter.nf_conntrack_events is 0: set it to 1');
  expect(silence(() => '1\n')).toBeUndefined();
  expect(silence(() => '2\n')).toBeUndefined();
  expect(
    silence(() => {
      throw new Error('ENOENT');
    }),
  ).toBeUndefined();
});
