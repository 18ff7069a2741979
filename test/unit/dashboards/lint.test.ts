// Rules of our own for every dashboard, on the JSON that Grafana reads.
import { describe, expect, test } from 'vitest';
import { CATALOGUE, prometheusName } from '../../../exporter/telemetry/catalogue.ts';
import { type Grid, models, type PanelModel, panelQueries } from './model.ts';
import { families, selectorsOf } from './selectors.ts';

const all = models();
const isRow = (panel: PanelModel): boolean => panel.type === 'row';
const overlap = (a: Grid, b: Grid): boolean =>
  a.x < b.x + b.w && b.x < a.x + a.w && a.y < b.y + b.h && b.y < a.y + a.h;
const duplicates = <T>(values: readonly T[]): T[] => values.filter((value, i) => values.indexOf(value) !== i);

test('five dashboards, each with its own stable uid and title', () => {
  expect(all.map(({ uid }) => uid)).toEqual([
    'knp-overview',
    'knp-service-map',
    'knp-workload',
    'knp-tcp-health',
    'knp-agent',
  ]);
  expect(duplicates(all.map(({ title }) => title))).toEqual([]);
});

describe.each(all.map((dashboard) => [dashboard.uid, dashboard] as const))('%s', (_, dashboard) => {
  const panels = dashboard.panels.filter((panel) => !isRow(panel));

  test('panels have ids of their own', () => {
    expect(duplicates(dashboard.panels.map(({ id }) => id))).toEqual([]);
    expect(dashboard.panels.every(({ id }) => Number.isInteger(id) && id > 0)).toBe(true);
  });

  test('no panel overlaps another or leaves the grid', () => {
    const pairs = dashboard.panels.flatMap((a, i) =>
      dashboard.panels.slice(i + 1).map((b) => [a, b] as const),
    );
    expect(
      pairs.filter(([a, b]) => overlap(a.gridPos, b.gridPos)).map(([a, b]) => [a.title, b.title]),
    ).toEqual([]);
    expect(
      dashboard.panels.filter(
        ({ gridPos: { x, y, w, h } }) => x < 0 || y < 0 || w < 1 || h < 1 || x + w > 24,
      ),
    ).toEqual([]);
  });

  test('every panel has a title, a description, a unit, the data source variable and a query', () => {
    for (const panel of panels) {
      expect(panel.title, `${panel.id}`).not.toBe('');
      expect(panel.description ?? '', panel.title).toMatch(/^[^a-z].{8,}\.$/s);
      expect(panel.fieldConfig?.defaults.unit ?? '', panel.title).not.toBe('');
      expect(panel.datasource, panel.title).toEqual({ type: 'prometheus', uid: `\${datasource}` });
      expect(panel.targets?.length, panel.title).toBeGreaterThan(0);
      for (const target of panel.targets ?? []) expect(target.datasource).toEqual(panel.datasource);
      expect(duplicates((panel.targets ?? []).map(({ refId }) => refId))).toEqual([]);
    }
  });

  test('titles within a row are different', () => {
    let row = '';
    const titles = dashboard.panels.map((panel) => {
      if (isRow(panel)) row = panel.title;
      return `${row} / ${panel.title}`;
    });
    expect(duplicates(titles)).toEqual([]);
  });

  test('every variable that is used is defined, and every one defined is used', () => {
    const text = JSON.stringify({ ...dashboard, templating: [], title: '' });
    const builtIn = ['__rate_interval', '__range', '__url_time_range', '__data'];
    const used = [...text.matchAll(/\$\{?(\w+)/g)].map((match) => match[1] as string);
    const own = new Set(used.filter((name) => !builtIn.includes(name)));
    const defined = dashboard.templating.list.map(({ name }) => name);
    // The links of table cells name variables of the dashboard that they open.
    expect([...own].filter((name) => !defined.includes(name))).toEqual([]);
    expect(defined.filter((name) => !own.has(name))).toEqual([]);
    for (const { name, description } of dashboard.templating.list) {
      expect(description ?? '', name).toMatch(/\.$/);
    }
  });

  test('a legend names only labels that the query keeps', () => {
    for (const panel of panels) {
      for (const target of panel.targets ?? []) {
        const labels = [...(target.legendFormat ?? '').matchAll(/\{\{(\w+)\}\}/g)].map((match) => match[1]);
        const kept = [...target.expr.matchAll(/\bby \(([^)]*)\)/g)].flatMap((match) =>
          (match[1] as string).split(', '),
        );
        // And those that it makes.
        const made = target.expr.matchAll(/\blabel_replace\(.*?, "(\w+)", "[^"$]+", "", ""\)/g);
        kept.push(...[...made].map((match) => match[1] as string));
        expect(
          labels.filter((label) => !kept.includes(label as string)),
          `${panel.title}: ${target.expr}`,
        ).toEqual([]);
      }
    }
  });

  test('links to the other dashboards, and shows alerts', () => {
    expect(dashboard.links[0]?.tags).toEqual(['kubenetprobe']);
    expect(dashboard.tags).toContain('kubenetprobe');
    expect(dashboard.annotations.list.map(({ expr }) => expr)).toContain(
      'ALERTS{app="kubenetprobe",alertstate="firing",cluster=~"$cluster"}',
    );
  });
});

describe('queries', () => {
  const known = families();
  const queries = panelQueries(all);
  const target = ['job', 'instance', 'cluster', 'node'];

  test('name metrics, labels and values of the catalogue only', () => {
    const problems: string[] = [];
    for (const { where, expr } of queries) {
      for (const { metric, matchers } of selectorsOf(expr)) {
        if (metric === 'ALERTS') continue;
        for (const side of ['server', 'client']) {
          const family = known.get(metric.replace(`\${reporter}`, side));
          if (family === undefined) {
            problems.push(`${where}: no metric ${metric}`);
            continue;
          }
          for (const { label, value } of matchers) {
            if (!family.labels.has(label) && !target.includes(label))
              problems.push(`${where}: ${metric} has no label ${label}`);
            const values = family.values.get(label);
            if (values !== undefined && value !== '' && !value.startsWith('$') && !values.includes(value))
              problems.push(`${where}: ${label} of ${metric} is never ${value}`);
          }
        }
      }
    }
    expect(problems).toEqual([]);
  });

  test('every selector has matchers (so that the check above sees it), and the cluster among them', () => {
    for (const { where, expr } of queries) {
      const selectors = selectorsOf(expr);
      expect(selectors.length, where).toBeGreaterThan(0);
      for (const { matchers } of selectors) {
        expect(
          matchers.map(({ label }) => label),
          where,
        ).toContain('cluster');
      }
      const bare = expr.replace(/\{[^}]*\}|\bby \([^)]*\)/g, '{}').match(/\b(knp|http|traces)_\w+(?![\w{])/g);
      expect(bare, where).toBe(null);
    }
  });

  test('no rate of a gauge, no bare counter', () => {
    for (const { where, expr } of queries) {
      for (const [, inner] of expr.matchAll(/(?:rate|increase)\(([\w${}]+)\{/g)) {
        expect(inner, where).toMatch(/(_total|_bucket|_count|_sum)$/);
      }
      for (const [whole] of expr.matchAll(
        /(?<!rate\(|increase\(|[\w${}])[\w${}]+_(total|bucket|count|sum)\{/g,
      )) {
        expect(whole, where).toBe('inside rate()');
      }
    }
  });

  test('every metric of the catalogue is on some dashboard', () => {
    const text = queries.map(({ expr }) => expr.replaceAll(`\${reporter}`, 'server')).join('\n');
    const client = text.replaceAll('http_server_', 'http_client_');
    const unseen = CATALOGUE.map(prometheusName).filter(
      (name) => !text.includes(name) && !client.includes(name),
    );
    expect(unseen).toEqual([]);
  });
});
