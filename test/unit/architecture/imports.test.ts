// The direction of imports: the tree obeys it, and every way to break it is found.
import { describe, expect, test } from 'vitest';
import { ownFiles, readOwn } from '../../../scripts/architecture/files.ts';
import { forbiddenImports, importsOf } from '../../../scripts/architecture/imports.ts';

test('no file of the repository imports against the direction of design.md', () => {
  const paths = ownFiles(/^(exporter|dashboards|alerts)\/.*\.ts$/);
  expect(paths).toContain('exporter/kernel/native.ts');
  expect(forbiddenImports(new Map(paths.map((path) => [path, readOwn(path)])))).toEqual([]);
});

const FORBIDDEN: readonly (readonly [path: string, source: string, reason: string])[] = [
  [
    'exporter/telemetry/store.ts',
    `import { x } from '../probes/tcp/index.ts';`,
    'a probe is known by its interface only',
  ],
  [
    'exporter/telemetry/a.ts',
    `import type { X } from '../server/index.ts';`,
    'telemetry may not import server',
  ],
  ['exporter/identity/a.ts', `export { x } from '../kernel/native.ts';`, 'identity may not import kernel'],
  [
    'exporter/kernel/a.ts',
    `const x = await import('../identity/host.ts');`,
    'kernel may not import identity',
  ],
  ['exporter/kernel/a.ts', `import '../probes/edges.ts';`, 'kernel may not import probes'],
  ['exporter/server/a.ts', `import {\n  x,\n  y,\n} from '../cli/main.ts';`, 'server may not import cli'],
  [
    'exporter/config/a.ts',
    `import { x } from '../telemetry/catalogue.ts';`,
    'config may not import telemetry',
  ],
  [
    'exporter/probes/tcp/a.ts',
    `import { x } from '../http/index.ts';`,
    'a probe never imports another probe',
  ],
  [
    'exporter/probes/edges.ts',
    `import { x } from './tcp/index.ts';`,
    'what probes share may not import one of them',
  ],
  [
    'exporter/probes/requests/a.ts',
    `import { x } from '../http/index.ts';`,
    'what probes share may not import one of them',
  ],
  ['exporter/probes/tcp/a.ts', `import { x } from '../../cli/main.ts';`, 'probes may not import cli'],
  ['exporter/probes/tcp/a.ts', `import { x } from '../../agent/agent.ts';`, 'probes may not import agent'],
  ['exporter/agent/a.ts', `import { x } from '../cli/main.ts';`, 'agent may not import cli'],
  ['exporter/a.ts', `import { x } from './cli/main.ts';`, 'exporter/root has no place'],
  ['exporter/agent/a.ts', `import { x } from '../probes/tcp/index.ts';`, 'known by its interface only'],
  ['exporter/cli/a.ts', `import { x } from '../probes/http/records.ts';`, 'known by its interface only'],
  ['exporter/cli/a.ts', `import { x } from '../server/server.ts';`, 'cli may not import server'],
  [
    'exporter/telemetry/store.ts',
    `import { x } from '../probes/definitions.ts';`,
    'telemetry may not import probes',
  ],
  [
    'exporter/probes/registry.ts',
    `export { probe } from './tcp/index.ts';`,
    'the registry imports definitions only',
  ],
  [
    'exporter/probes/tcp/settings.ts',
    `import type { Config } from '../../config/schema.ts';`,
    'settings.ts of a probe is data',
  ],
  ['exporter/probes/tcp/metrics.ts', `import { x } from './source.ts';`, 'metrics.ts of a probe is data'],
  [
    'exporter/probes/tcp/definition.ts',
    `import { TcpSource } from './source.ts';`,
    'definition.ts of a probe is data',
  ],
  ['exporter/probes/tcp/definition.ts', `import { probe } from './index.ts';`, 'before it is needed'],
  [
    'exporter/probes/probe.ts',
    `import { SeriesStore } from '../telemetry/store.ts';`,
    'imports more than types',
  ],
  ['exporter/misc/a.ts', `import { x } from '../config/schema.ts';`, 'exporter/misc has no place'],
  ['exporter/cli/a.ts', `import { x } from '../../test/testbed/cli.ts';`, 'nothing from outside exporter/'],
  [
    'exporter/cli/a.ts',
    `import { x } from '../kernel/addon.ts';`,
    'reached through exporter/kernel/native.ts',
  ],
  [
    'exporter/kernel/map.ts',
    `const addon = createRequire(import.meta.url)('../../build/native/knp.node');`,
    'only exporter/kernel/addon.ts loads the native addon',
  ],
  ['test/kernel/a.ts', `require('../../build/native/knp.node')`, 'only exporter/kernel/addon.ts loads'],
  ['dashboards/edges.ts', `import { x } from '../exporter/telemetry/store.ts';`, 'nothing but itself and'],
  ['dashboards/a.ts', `import { x } from '../exporter/probes/http/requests.ts';`, 'nothing but itself and'],
  [
    'exporter/probes/descriptors.ts',
    `import { x } from './http/requests.ts';`,
    'what probes share may not import one of them',
  ],
  [
    'exporter/probes/http/requests.ts',
    `import { x } from '../../telemetry/catalogue.ts';`,
    'requests.ts of a probe is data',
  ],
  ['alerts/rules.ts', `import { x } from '../dashboards/queries.ts';`, 'nothing but itself and'],
  [
    'dashboards/promql/a.ts',
    `import { x } from '../panels.ts';`,
    'dashboards/promql/ imports nothing but itself',
  ],
];

describe('a forbidden import is found', () => {
  test.each(FORBIDDEN)('%s: %s', (path, source, reason) => {
    const problems = forbiddenImports(new Map([[path, source]]));
    expect(problems).toHaveLength(1);
    expect(problems[0]).toContain(reason);
  });
});

const ALLOWED: readonly (readonly [path: string, source: string])[] = [
  ['exporter/cli/run.ts', `import { x } from '../agent/agent.ts';`],
  [
    'exporter/agent/a.ts',
    `import { x } from '../probes/definitions.ts';\nimport { y } from '../server/index.ts';`,
  ],
  ['exporter/telemetry/catalogue.ts', `import { x } from '../probes/definitions.ts';`],
  ['exporter/config/schema.ts', `import { x } from '../probes/definitions.ts';`],
  ['exporter/probes/registry.ts', `export { tcp } from './tcp/definition.ts';`],
  [
    'exporter/probes/tcp/definition.ts',
    `import type { P } from '../probe.ts';\nimport { x } from './metrics.ts';\nconst load = () => import('./index.ts');`,
  ],
  ['exporter/probes/tcp/metrics.ts', `import { x } from '../../telemetry/attributes.ts';`],
  [
    'exporter/probes/tcp/index.ts',
    `import { x } from '../edges.ts';\nimport { y } from '../../kernel/native.ts';`,
  ],
  ['exporter/telemetry/a.ts', `import type { Config } from '../config/schema.ts';\nimport { z } from 'zod';`],
  ['exporter/kernel/addon.ts', `createRequire(import.meta.url)('../../build/native/knp.node')`],
  ['alerts/rules.ts', `import { METRICS } from '../exporter/telemetry/catalogue.ts';`],
  ['alerts/rules.ts', `import { rate } from '../dashboards/promql/expression.ts';`],
  ['dashboards/overview.ts', `import { rate } from './promql/expression.ts';`],
  ['dashboards/queries/a.ts', `import { ALL } from '../../exporter/probes/descriptors.ts';`],
  ['alerts/a.ts', `import type { X } from '../exporter/telemetry/requests/protocol.ts';`],
  ['exporter/probes/descriptors.ts', `import { PROBES } from './definitions.ts';`],
  [
    'exporter/probes/http/requests.ts',
    `import { x } from '../../telemetry/requests/protocol.ts';\nimport { y } from './metrics.ts';`,
  ],
  [
    'exporter/telemetry/a.ts',
    `// import { x } from '../probes/tcp/index.ts';\n/* import '../cli/main.ts' */`,
  ],
];

test.each(ALLOWED)('%s may: %s', (path, source) => {
  expect(forbiddenImports(new Map([[path, source]]))).toEqual([]);
});

test('every form of import is seen', () => {
  const source = [
    `import a from './a.ts';`,
    `import type { B } from "./b.ts";`,
    `import * as c from './c.ts';`,
    `export * from './d.ts';`,
    `export type { E } from './e.ts';`,
    `import './f.ts';`,
    `const g = () => import('./g.ts');`,
    `const h = require('./h.ts');`,
    `import {\n  i,\n  type J,\n} from './i.ts';`,
  ].join('\n');
  expect(importsOf(source).sort()).toEqual([...'abcdefghi'].map((letter) => `./${letter}.ts`));
});
