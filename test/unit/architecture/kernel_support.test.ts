// docs/kernel-support.md shows what the guests said.
import { expect, test } from 'vitest';
import { hooksOf, readPage, readSupport, renderPage, SUPPORTED } from '../../../scripts/kernel_support.ts';

test('the page is what the kept answers give', () => {
  expect(renderPage(readPage(), readSupport())).toBe(readPage());
});

test('every supported kernel was asked, and serves every purpose of the TCP probe', () => {
  const support = readSupport();
  expect(Object.keys(support)).toEqual(expect.arrayContaining([...SUPPORTED]));
  for (const hooks of Object.values(support)) {
    expect(hooks['tcp: connection state']).not.toEqual([]);
    expect(hooks['tcp: walk over the sockets']).not.toEqual([]);
  }
});

test('an answer without probes, or with a failed one, is an error', () => {
  expect(() => hooksOf('{"ok":false,"checks":[]}')).toThrow('could not load');
  const failed = { agent: { probes: [{ name: 'tcp', state: 'failed', reason: 'no BTF', hooks: [] }] } };
  expect(() => hooksOf(JSON.stringify(failed))).toThrow('probe tcp: no BTF');
});
