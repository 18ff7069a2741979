// The arithmetic of the benches.
import { expect, test } from 'vitest';
import { sample } from '../../load/agent.ts';
import { figure, median, pairs, ratios } from '../../load/measure.ts';

test('the median of odd and even counts, in any order', () => {
  expect(median([3, 1, 2])).toBe(2);
  expect(median([10, 1, 2, 3])).toBe(2.5);
  expect(() => median([])).toThrow('no values');
});

test('a goal is met by the median, in its direction', () => {
  expect(figure('kept', [0.9, 1, 1], 'ratio', { atLeast: 0.99 }).goal).toEqual({ text: '≥ 0.99', met: true });
  expect(figure('kept', [0.9, 0.9, 1], 'ratio', { atLeast: 0.99 }).goal?.met).toBe(false);
  expect(figure('RSS', [80, 95, 81], 'MB', { atMost: 90 }).goal).toEqual({ text: '≤ 90', met: true });
  expect(figure('RSS', [95], 'MB', { atMost: 90 }).goal?.met).toBe(false);
});

test('pairs alternate in order, and ratios are taken within a pair', async () => {
  const order: string[] = [];
  const take = (name: string, value: () => number) => async () => {
    order.push(name);
    return value();
  };
  let drift = 0; // the machine gets slower from pair to pair: the ratio does not see it
  const measured = await pairs(3, {
    without: take('without', () => 100 / 2 ** Math.floor(drift++ / 2)),
    with: take('with', () => 50 / 2 ** Math.floor(drift++ / 2)),
  });
  expect(order).toEqual(['without', 'with', 'with', 'without', 'without', 'with']);
  expect(measured.without).toEqual([100, 50, 25]);
  expect(ratios(measured)).toEqual([0.5, 0.5, 0.5]);
});

test('a sample is found by its name and labels, and by nothing less', () => {
  const text = [
    '# TYPE knp_a_seconds gauge',
    'knp_a_seconds{source="tcp",x="1"} 0.25',
    'knp_a_seconds{source="http"} 0.5',
    'knp_a_seconds_max{source="dns"} 9',
    'knp_up 1',
  ].join('\n');
  expect(sample(text, 'knp_a_seconds', { source: 'tcp' })).toBe(0.25);
  expect(sample(text, 'knp_a_seconds', { source: 'http' })).toBe(0.5);
  expect(sample(text, 'knp_up')).toBe(1);
  expect(() => sample(text, 'knp_a_seconds', { source: 'dns' })).toThrow('no sample');
});
