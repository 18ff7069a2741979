// docs/metrics.md is what the program prints.
import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { renderMetricsReference } from '../../../exporter/telemetry/reference.ts';

test('docs/metrics.md is up to date; `make docs` writes it', () => {
  const page = readFileSync(new URL('../../../docs/metrics.md', import.meta.url), 'utf8');
  expect(page).toBe(renderMetricsReference());
});
