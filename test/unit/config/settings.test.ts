// The schema as a list of settings: names are unique, everything is described, the page of the docs is current.
import { readFileSync, writeFileSync } from 'node:fs';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { parse } from 'yaml';
import { renderDefaults, renderDocs, renderEffective } from '../../../exporter/config/docs.ts';
import { redact, resolveHeaders } from '../../../exporter/config/headers.ts';
import { loadConfig } from '../../../exporter/config/load.ts';
import { configSchema, defaultConfig } from '../../../exporter/config/schema.ts';
import {
  CONFIG_FILE_VARIABLE,
  jsonSchema,
  nearest,
  quoted,
  settings,
} from '../../../exporter/config/settings.ts';
import { parseCidr, parseHostPort } from '../../../exporter/config/values.ts';

describe('settings', () => {
  test('every one is described, and has a variable and a flag of its own', () => {
    const variables = new Set([CONFIG_FILE_VARIABLE]);
    const flags = new Set<string>();
    for (const { path, variable, flag, node } of settings()) {
      expect(node.description, path).toMatch(/^\S.{10,}[.)`]$/);
      expect(path).toMatch(/^[a-z_.]+$/);
      expect(variables.has(variable), variable).toBe(false);
      variables.add(variable);
      if (flag !== undefined) expect(flags.has(flag), flag).toBe(false);
      if (flag !== undefined) flags.add(flag);
    }
    expect(settings().length).toBeGreaterThan(40);
    expect(flags).toContain('--listen');
  });

  test('no setting looks like a variable that Kubernetes sets', () => {
    for (const { variable } of settings()) expect(variable).not.toMatch(/_(SERVICE_HOST|SERVICE_PORT|PORT)$/);
  });

  test('every default is allowed, and is what the JSON Schema says', () => {
    const config = defaultConfig();
    expect(configSchema.parse(config)).toEqual(config);
    for (const { path, keys, node } of settings()) {
      let value: unknown = config;
      for (const key of keys) value = (value as Record<string, unknown>)[key];
      expect(value, path).toEqual(node.default);
    }
  });

  test('numbers have their unit in the name or count what the name says', () => {
    const plain =
      /(_seconds|_millis|_bytes|_per_second|_per_metric|_routes|_paths|_spans|edges|owners|sockets|ratio|concurrency)$/;
    for (const { path, node } of settings()) {
      if (node.type === 'integer' || node.type === 'number') expect(path).toMatch(plain);
    }
  });

  test('the JSON Schema is closed at every level', () => {
    const schema = jsonSchema() as Record<string, unknown>;
    expect(schema.$schema).toBe('https://json-schema.org/draft/2020-12/schema');
    const check = (node: Record<string, unknown>, path: string) => {
      if (node.properties !== undefined) expect(node.additionalProperties, path).toBe(false);
      for (const [key, child] of Object.entries(node.properties ?? {})) check(child, `${path}.${key}`);
    };
    check(schema, '');
  });
});

describe('docs', () => {
  test('docs/configuration.md is what `kubenetprobe config docs` prints', () => {
    const page = new URL('../../../docs/configuration.md', import.meta.url);
    if (process.env.UPDATE_DOCS === '1') writeFileSync(page, renderDocs());
    expect(readFileSync(page, 'utf8')).toBe(renderDocs());
  });

  test('every example of the page is accepted', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'knp-cli-docs-'));
    try {
      const blocks = [...renderDocs().matchAll(/```yaml\n(.*?)```/gs)].map((match) => match[1] ?? '');
      expect(blocks.length).toBeGreaterThan(2);
      for (const block of blocks) {
        const file = join(folder, 'c.yaml');
        writeFileSync(file, block);
        expect(await loadConfig({ file, env: {} }), block).toMatchObject({ ok: true });
      }
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('the printed defaults are a file that changes nothing', () => {
    expect(configSchema.parse(parse(renderDefaults(defaultConfig())))).toEqual(defaultConfig());
  });

  test('the effective configuration says where each value comes from, and hides secrets', async () => {
    const result = await loadConfig({
      env: {
        KNP_LISTEN: ':1',
        KNP_OTLP_TRACES_HEADERS: '{authorization: s3cret, b: {env: TOKEN}, c: {file: /run/token}}',
      },
      flags: [{ place: '--set', path: 'limits.edges', value: '64' }],
    });
    if (!result.ok) throw new Error(result.message);
    const text = renderEffective(result.config, result.origins);
    expect(text).toContain('\nlisten: :1 # KNP_LISTEN\n'.slice(1));
    expect(text).toContain('\n  edges: 64 # --set\n');
    expect(text).toContain('\n  owners: 8192\n');
    expect(text).toContain('    # KNP_OTLP_TRACES_HEADERS\n    headers:\n      authorization: (hidden)\n');
    expect(text).not.toContain('s3cret');
    expect(redact(result.config).otlp.traces.headers).toEqual({
      authorization: '(hidden)',
      b: { env: 'TOKEN' },
      c: { file: '/run/token' },
    });
    expect(result.config.otlp.traces.headers.authorization).toBe('s3cret');
  });
});

describe('values', () => {
  test.each([
    ['127.0.0.1:9464', { host: '127.0.0.1', port: 9464 }],
    ['[::1]:0', { host: '::1', port: 0 }],
    ['localhost:65535', { host: 'localhost', port: 65535 }],
    [':80', { host: '::', port: 80 }],
    ['[1.2.3.4]:80', undefined],
    ['a:b:80', undefined],
    ['a:', undefined],
    ['a:99999', undefined],
    ['http://a:80', undefined],
    ['999.1.1.1:80', undefined],
  ])('host and port of %j', (text, expected) => {
    expect(parseHostPort(text)).toEqual(expected);
  });

  test.each([
    ['10.0.0.0/8', { family: 4, address: '10.0.0.0', prefixLength: 8 }],
    ['10.0.0.1', { family: 4, address: '10.0.0.1', prefixLength: 32 }],
    ['2001:db8::/32', { family: 6, address: '2001:db8::', prefixLength: 32 }],
    ['::/0', { family: 6, address: '::', prefixLength: 0 }],
    ['10.0.0.0/33', undefined],
    ['::/129', undefined],
    ['fe80::1%eth0/64', undefined],
    ['10.0.0/8', undefined],
    ['/8', undefined],
  ])('prefix %j', (text, expected) => {
    expect(parseCidr(text)).toEqual(expected);
  });

  test('headers come from text, a variable or a file, and a bad one names itself but not its value', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'knp-cli-headers-'));
    try {
      const file = join(folder, 'token');
      writeFileSync(file, 'from-file\n');
      expect(await resolveHeaders({ a: 'x', b: { env: 'B' }, c: { file } }, { B: 'from-env' })).toEqual({
        ok: true,
        headers: { a: 'x', b: 'from-env', c: 'from-file' },
      });
      writeFileSync(file, 'rotated');
      expect(await resolveHeaders({ c: { file } }, {})).toEqual({ ok: true, headers: { c: 'rotated' } });
      writeFileSync(file, 's3cret\r\nx-injected: 1');
      expect(await resolveHeaders({ c: { file } }, {})).toEqual({
        ok: false,
        reason: 'header c: the value holds characters that a header cannot',
      });
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  test('a value is printed on one line without control characters', () => {
    expect(quoted('a\u001b]0;x\u0007\n\u202e\u009b')).toBe('"a\\u001b]0;x\\u0007\\n\\u202e\\u009b"');
    expect(quoted({})).toBe('a mapping');
  });

  test('the nearest word is only offered when it is near', () => {
    expect(nearest('lsiten', ['listen', 'limits'])).toBe('listen');
    expect(nearest('LISTEN', ['listen'])).toBe('listen');
    expect(nearest('max-routes', ['max_routes'])).toBe('max_routes');
    expect(nearest('foo', ['listen', 'limits'])).toBeUndefined();
    expect(nearest('x'.repeat(100_000), ['listen'])).toBeUndefined();
  });
});
