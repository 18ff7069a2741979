// Dashboards for two protocols: rows for each, totals of both, and ids that stay what they are.
import { describe, expect, test } from 'vitest';
import { REQUEST_PROTOCOLS } from '../../../exporter/probes/descriptors.ts';
import { labelName, prometheusName } from '../../../exporter/telemetry/catalogue.ts';
import { ERROR_ATTRIBUTE, type RequestProtocol } from '../../../exporter/telemetry/requests/protocol.ts';
import { models, type PanelModel } from '../dashboards/model.ts';
import { selectorsOf } from '../dashboards/selectors.ts';
import { STORE } from './second_protocol.ts';

const PROTOCOLS: readonly RequestProtocol[] = [...REQUEST_PROTOCOLS, STORE];
const panels = (uid: string, protocols = PROTOCOLS): PanelModel[] =>
  models(protocols).find((dashboard) => dashboard.uid === uid)?.panels ?? [];
/** Row → titles of its panels. */
function rows(from: readonly PanelModel[]): Map<string, PanelModel[]> {
  const all = new Map<string, PanelModel[]>();
  let row: PanelModel[] = [];
  for (const panel of from) {
    if (panel.type === 'row') {
      row = [];
      all.set(panel.title, row);
    } else row.push(panel);
  }
  return all;
}
const texts = (of: readonly PanelModel[] = []) =>
  of.flatMap(({ targets = [] }) => targets.map(({ expr }) => expr));

describe('the Workload dashboard', () => {
  const of = rows(panels('knp-workload'));

  test('has the same rows for each protocol', () => {
    const titles = (row: string) => of.get(row)?.map(({ title }) => title);
    for (const { title } of PROTOCOLS) {
      expect(titles(`Inbound ${title}: what it answers`)).toEqual([
        'Requests by status',
        'Errors',
        'Latency',
        'Operations',
        'Clients',
      ]);
      expect(titles(`Outbound ${title}: whom it calls`)).toEqual(['Requests', 'Errors', 'Latency, p95']);
    }
  });

  test('each row reads the metrics of its protocol, and of its system only', () => {
    const inbound = texts(of.get('Inbound Test store: what it answers'));
    expect(inbound.length).toBeGreaterThan(8);
    for (const expr of [...inbound, ...texts(of.get('Outbound Test store: whom it calls'))])
      for (const { metric, matchers } of selectorsOf(expr)) {
        expect(metric).toMatch(/^(db_client|knp_db_server)_operation_duration_seconds_(count|bucket)$/);
        expect(matchers).toContainEqual({ label: 'db_system_name', operator: '=', value: 'teststore' });
      }
    expect(inbound.some((expr) => expr.includes('by (db_response_status_code)'))).toBe(true);
    expect(inbound.some((expr) => expr.includes('by (db_operation_name)'))).toBe(true);
    for (const expr of texts(of.get('Inbound HTTP: what it answers'))) expect(expr).not.toContain('db_');
  });

  test('a protocol that comes changes no id of another', () => {
    const ids = (protocols: readonly RequestProtocol[]) =>
      new Map(
        [...rows(panels('knp-workload', protocols))].flatMap(([row, own]) =>
          own.map((panel) => [`${row} / ${panel.title}`, panel.id] as const),
        ),
      );
    const both = ids(PROTOCOLS);
    for (const [title, id] of ids(REQUEST_PROTOCOLS)) expect(both.get(title), title).toBe(id);
    for (const [title, id] of ids([STORE, ...REQUEST_PROTOCOLS])) expect(both.get(title), title).toBe(id);
    expect(new Set(both.values()).size).toBe(both.size);
  });

  test('panels of HTTP keep the ids that links point at', () => {
    const http = of.get('Inbound HTTP: what it answers')?.map(({ id }) => id);
    expect(http).toEqual([1, 2, 3, 7, 8]);
    expect(of.get('Outbound HTTP: whom it calls')?.map(({ id }) => id)).toEqual([20, 21, 22]);
  });
});

describe('the Overview dashboard', () => {
  const one = (title: string) => texts(panels('knp-overview').filter((panel) => panel.title === title));

  test.each(['Requests', 'Errors', 'Traffic'])('%s: of both protocols together', (title) => {
    const [expr = ''] = one(title);
    const metrics = new Set(selectorsOf(expr).map(({ metric }) => metric));
    expect([...metrics].sort()).toEqual([
      'db_client_operation_duration_seconds_count',
      'http_client_request_duration_seconds_count',
      'http_server_request_duration_seconds_count',
      'knp_db_server_operation_duration_seconds_count',
    ]);
    expect(expr).not.toContain('label_replace');
  });

  test('Latency: one by protocol, since buckets of two are not added', () => {
    for (const expr of one('Latency, p95')) {
      expect(expr).toContain('"protocol", "HTTP", "", ""');
      expect(expr).toContain('"protocol", "Test store", "", ""');
      for (const [quantile] of expr.matchAll(
        /histogram_quantile\(0\.95, sum by \([^)]*\) \(.*?\$__rate_interval\]\)\)/g,
      ))
        expect(quantile.includes('http_') && quantile.includes('db_')).toBe(false);
    }
    expect(one('Latency, p95')).toHaveLength(2);
  });
});

describe('the descriptors of the registered probes', () => {
  test.each(REQUEST_PROTOCOLS.map((protocol) => [protocol.name, protocol] as const))(
    '%s: its histograms have the attributes that it names',
    (_, { durations, only = {}, operation, status, name, title }) => {
      expect(name).toMatch(/^[a-z][a-z0-9]*$/);
      expect(title).not.toBe('');
      for (const metric of Object.values(durations)) {
        expect(metric).toMatchObject({ kind: 'histogram', unit: 's' });
        const wanted = ['reporter', 'client_workload', 'server_workload', ERROR_ATTRIBUTE];
        const own = [...operation, status].map(({ attribute }) => attribute);
        expect(metric.attributes).toEqual(expect.arrayContaining([...wanted, ...own, ...Object.keys(only)]));
      }
    },
  );

  test('names are unique, and metrics are shared only with labels that tell apart', () => {
    const unique = (values: readonly string[]) => expect(new Set(values).size).toBe(values.length);
    unique(REQUEST_PROTOCOLS.map(({ name }) => name));
    unique(
      REQUEST_PROTOCOLS.flatMap(({ durations, only }) =>
        Object.values(durations).map(
          (metric) =>
            `${prometheusName(metric)} ${JSON.stringify(Object.entries(only ?? {}).map(([key, value]) => [labelName(key), value]))}`,
        ),
      ),
    );
  });
});
