// Checks dashboards against Grafana's schema as the SDK's generated types carry it: the JSON becomes a literal of those
// types, so a field that Grafana does not know, or a value of the wrong type, is a compiler error.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../../../scripts/architecture/files.ts';

const SDK = '@grafana/grafana-foundation-sdk';
/** Module of the SDK that has `Options` and `FieldConfig` of a panel type; undefined: the type has no such thing. */
const PANEL_TYPES: Readonly<Record<string, { module: string; fieldConfig: string | undefined }>> = {
  timeseries: { module: 'timeseries', fieldConfig: 'FieldConfig' },
  stat: { module: 'stat', fieldConfig: undefined },
  table: { module: 'table', fieldConfig: 'FieldConfig' },
  heatmap: { module: 'heatmap', fieldConfig: 'FieldConfig' },
  nodeGraph: { module: 'nodegraph', fieldConfig: undefined },
};

const PREAMBLE = `import type * as dashboard from '${SDK}/dashboard';
import type * as prometheus from '${SDK}/prometheus';
import type * as timeseries from '${SDK}/timeseries';
import type * as stat from '${SDK}/stat';
import type * as table from '${SDK}/table';
import type * as heatmap from '${SDK}/heatmap';
import type * as nodegraph from '${SDK}/nodegraph';
// Enums as JSON has them, without the SDK's own markers.
type Json<T> = 0 extends 1 & T ? any
  : T extends string ? (string extends T ? string : \`\${T}\`)
  : T extends number ? number
  : T extends boolean | null | undefined ? T
  : T extends readonly (infer U)[] ? Json<U>[]
  : T extends object ? { [K in keyof T as K extends \`_\${string}\` ? never : K]: Json<T[K]> }
  : T;
`;

interface AnyPanel {
  type: string;
  targets?: unknown[];
  options?: unknown;
  fieldConfig?: { defaults?: { custom?: unknown } };
}

function checks(model: { panels?: unknown[] }, at: number): string {
  const lines: string[] = [];
  const declare = (name: string, type: string, value: unknown): void =>
    void lines.push(`export const ${name}_${at}: Json<${type}> = ${JSON.stringify(value)};`);
  const panels = (model.panels ?? []) as AnyPanel[];
  panels.forEach((panel, i) => {
    (panel.targets ?? []).forEach((target, j) => {
      declare(`target_${i}_${j}`, 'prometheus.Dataquery', target);
    });
    const kind = PANEL_TYPES[panel.type];
    if (kind === undefined) return;
    if (panel.options !== undefined) declare(`options_${i}`, `${kind.module}.Options`, panel.options);
    const custom = panel.fieldConfig?.defaults?.custom;
    if (custom !== undefined && kind.fieldConfig !== undefined)
      declare(`custom_${i}`, `${kind.module}.${kind.fieldConfig}`, custom);
  });
  declare('dashboard', 'dashboard.Dashboard', {
    ...model,
    panels: panels.map(({ targets: _, ...panel }) => panel),
  });
  return lines.join('\n');
}

/** Messages of the compiler, one per line; none when all are valid. */
export function schemaProblems(all: readonly object[]): string[] {
  const parent = join(ROOT, 'build/test');
  mkdirSync(parent, { recursive: true });
  const folder = mkdtempSync(join(parent, 'grafana-schema-'));
  try {
    writeFileSync(join(folder, 'check.ts'), PREAMBLE + all.map(checks).join('\n'));
    const options = {
      strict: true,
      noEmit: true,
      skipLibCheck: true,
      module: 'nodenext',
      target: 'es2024',
      types: [],
    };
    writeFileSync(
      join(folder, 'tsconfig.json'),
      JSON.stringify({ compilerOptions: options, files: ['check.ts'] }),
    );
    const tsc = join(ROOT, 'node_modules/.bin/tsc');
    const { status, stdout } = spawnSync(tsc, ['-p', folder, '--pretty', 'false'], { encoding: 'utf8' });
    return status === 0 ? [] : stdout.split('\n').filter((line) => line !== '');
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
