// The query layer: texts, and what must not compile.
import { expect, test } from 'vitest';
import * as p from '../../../dashboards/promql/expression.ts';
import { matches, not, present, variable } from '../../../dashboards/promql/matchers.ts';
import { counter, gauge, histogram, httpHistogram } from '../../../dashboards/promql/select.ts';

test('selectors', () => {
  expect(counter('knp.tcp.sent_bytes', { reporter: 'client', server_port: 443 }).selector).toBe(
    'knp_tcp_sent_bytes_total{reporter="client",server_port="443"}',
  );
  expect(gauge('knp.agent.coverage_ratio').promql).toBe('knp_agent_coverage_ratio');
  expect(histogram('knp.tcp.rtt').bucket.selector).toBe('knp_tcp_rtt_seconds_bucket');
  expect(httpHistogram('request.duration', { http_route: '/a' }).count.selector).toBe(
    `http_\${reporter}_request_duration_seconds_count{http_route="/a"}`,
  );
});

test('matchers', () => {
  const of = (matchers: Parameters<typeof counter<'knp.tcp.connect_failures'>>[1]) =>
    counter('knp.tcp.connect_failures', matchers).selector.replace(/^[^{]*/, '');
  expect(of({ reason: ['refused', 'timed_out'] })).toBe('{reason=~"refused|timed_out"}');
  expect(of({ reason: not('refused') })).toBe('{reason!="refused"}');
  expect(of({ reason: not('refused', 'reset') })).toBe('{reason!~"refused|reset"}');
  expect(of({ server_workload: 'a"b\\c' })).toBe('{server_workload="a\\"b\\\\c"}');
  expect(of({ server_workload: ['a.b', 'c'] })).toBe('{server_workload=~"a\\\\.b|c"}');
  expect(of({ server_workload: matches('web-.*') })).toBe('{server_workload=~"web-.*"}');
  expect(of({ server_workload: variable('workload') })).toBe('{server_workload=~"$workload"}');
  expect(of({ server_service: present })).toBe('{server_service!=""}');
});

test('expressions put parentheses where precedence asks for them', () => {
  const a = p.sum(gauge('knp.tcp.connections'), ['server_workload']);
  const b = p.sum(gauge('knp.tcp.listen_backlog'), ['server_workload']);
  expect(p.divide(p.add(a, b), b).promql).toBe(`(${a.promql} + ${b.promql}) / ${b.promql}`);
  expect(p.subtract(a, p.subtract(a, b)).promql).toBe(`${a.promql} - (${a.promql} - ${b.promql})`);
  expect(p.above(a, { placeholder: '__x__' }).promql).toBe(`${a.promql} > __x__`);
  expect(p.rate(counter('knp.tcp.sent_bytes'), '5m', '1w').promql).toBe(
    'rate(knp_tcp_sent_bytes_total[5m] offset 1w)',
  );
});

test('what the catalogue does not have does not compile', () => {
  // @ts-expect-error no such metric
  expect(() => counter('knp.tcp.send_bytes')).toThrow('no metric');
  // @ts-expect-error a gauge is no counter
  counter('knp.tcp.connections');
  // @ts-expect-error no such label on this metric
  counter('knp.tcp.sent_bytes', { http_route: '/a' });
  // @ts-expect-error no such value
  counter('knp.tcp.connect_failures', { reason: 'refuse' });
  // @ts-expect-error a pattern could hide a wrong value of a closed set
  counter('knp.tcp.connect_failures', { reason: matches('refuse.*') });
  // @ts-expect-error not of a wrong value
  counter('knp.tcp.connect_failures', { reason: not('refuse') });
  // @ts-expect-error the metric has no such label to keep
  p.sum(gauge('knp.tcp.listen_backlog'), ['client_workload']);
  // @ts-expect-error gone after the first aggregation
  p.sum(p.sum(gauge('knp.tcp.connections'), ['server_workload']), ['server_port']);
  // @ts-expect-error labels differ: nothing would match
  p.divide(p.sum(gauge('knp.tcp.connections')), p.sum(gauge('knp.tcp.connections'), ['server_port']));
  // @ts-expect-error a counter is read through rate
  p.sum(counter('knp.tcp.sent_bytes'));
  // @ts-expect-error both sides must report it
  expect(() => httpHistogram('time_to_first_byte')).toThrow('no metric');
});
