// Loading the configuration: precedence, and every kind of refusal with its exact message.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { type ConfigSources, loadConfig } from '../../../exporter/config/load.ts';
import { defaultConfig } from '../../../exporter/config/schema.ts';
import { PROBES } from '../../../exporter/probes/definitions.ts';

const folder = mkdtempSync(join(tmpdir(), 'knp-cli-config-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const PROBE_NAMES = PROBES.map(({ name }) => name).join(', ');

let files = 0;
function file(text: string | Uint8Array): string {
  const path = join(folder, `${files++}.yaml`);
  writeFileSync(path, text);
  return path;
}

async function load(sources: ConfigSources) {
  const result = await loadConfig({ env: {}, ...sources });
  if (!result.ok) throw new Error(result.message);
  return result;
}

async function refusal(sources: ConfigSources): Promise<string> {
  const result = await loadConfig({ env: {}, ...sources });
  if (result.ok) throw new Error('the configuration was accepted');
  expect(result.message).toBe(result.problems.map(({ place, text }) => `${place}: ${text}`).join('\n'));
  return result.message;
}

/** The refusal of a file, without the file's path. */
async function fileRefusal(text: string | Uint8Array): Promise<string> {
  const path = file(text);
  const message = await refusal({ file: path });
  return message.replaceAll(`${path}:`, '').replaceAll(path, 'FILE');
}

const set = (path: string, value: string) => ({ place: '--set', path, value });

describe('sources', () => {
  test('nothing given: the defaults', async () => {
    expect((await load({})).config).toEqual(defaultConfig());
  });

  test('flags win over variables, those over the file, that over the defaults', async () => {
    const path = file('listen: 127.0.0.1:1\ndetail: pod\nlimits: {edges: 100, owners: 100, sockets: 100}\n');
    const env = { KNP_LIMITS_EDGES: '200', KNP_LIMITS_OWNERS: '200', KNP_CONFIG: '/does/not/exist' };
    const { config, origins } = await load({ file: path, env, flags: [set('limits.edges', '300')] });
    expect(config.limits).toEqual({ ...defaultConfig().limits, edges: 300, owners: 200, sockets: 100 });
    expect(config.listen).toBe('127.0.0.1:1');
    expect(config.log).toEqual(defaultConfig().log);
    expect(Object.fromEntries(origins)).toEqual({
      listen: `${path}:1:9`,
      detail: `${path}:2:9`,
      'limits.edges': '--set',
      'limits.owners': 'KNP_LIMITS_OWNERS',
      'limits.sockets': `${path}:3:44`,
    });
  });

  test('KNP_CONFIG names the file', async () => {
    expect((await load({ env: { KNP_CONFIG: file('detail: namespace') } })).config.detail).toBe('namespace');
  });

  test('lists and mappings in variables and flags, as YAML and as JSON', async () => {
    const { config } = await load({
      env: {
        KNP_IDENTITY_RANGES: '[{name: office, cidr: 192.0.2.0/24}]',
        KNP_OTLP_TRACES_HEADERS: '{"x-scope-orgid":"a"}',
      },
      flags: [set('probes.http.routes.patterns', '[{"pattern":"/a/{id}/*","service":"web"}]')],
    });
    expect(config.identity.ranges).toEqual([{ name: 'office', cidr: '192.0.2.0/24' }]);
    expect(config.otlp.traces.headers).toEqual({ 'x-scope-orgid': 'a' });
    expect(config.probes.http.routes.patterns).toEqual([{ pattern: '/a/{id}/*', service: 'web' }]);
  });

  test('a list replaces that of a weaker source as a whole', async () => {
    const path = file('identity: {ranges: [{name: a, cidr: 10.0.0.0/8}, {name: b, cidr: 11.0.0.0/8}]}');
    const { config } = await load({ file: path, env: { KNP_IDENTITY_RANGES: '[]' } });
    expect(config.identity.ranges).toEqual([]);
  });

  test('a text variable is taken as it stands, whatever YAML would make of it', async () => {
    expect((await load({ env: { KNP_KUBERNETES_NODE_NAME: '0123' } })).config.kubernetes.node_name).toBe(
      '0123',
    );
  });

  test.each(['auto', true, false])('kubernetes.enabled may be %s', async (value) => {
    const { config } = await load({ env: { KNP_KUBERNETES_ENABLED: String(value) } });
    expect(config.kubernetes.enabled).toBe(value);
    expect((await load({ file: file(`kubernetes: {enabled: ${value}}`) })).config.kubernetes.enabled).toBe(
      value,
    );
  });

  test('an empty variable is one that is not set', async () => {
    expect((await load({ env: { KNP_LISTEN: '', KNP_CONFIG: '', KNP_NO_SUCH: '' } })).config.listen).toBe(
      '0.0.0.0:9464',
    );
  });

  test('an empty file, and sections whose settings are commented out', async () => {
    expect((await load({ file: file('') })).config).toEqual(defaultConfig());
    expect((await load({ file: file('# nothing\nprobes:\n  tcp:\n    # enabled: false\n') })).config).toEqual(
      defaultConfig(),
    );
  });

  test('anchors and aliases', async () => {
    const path = file('otlp:\n  metrics: {headers: &h {a: b}}\n  traces: {headers: *h}\n');
    expect((await load({ file: path })).config.otlp.traces.headers).toEqual({ a: 'b' });
  });

  test('variables that Kubernetes sets for a Service named knp are not ours', async () => {
    const env = {
      KNP_SERVICE_HOST: '10.0.0.1',
      KNP_SERVICE_PORT: '9464',
      KNP_SERVICE_PORT_METRICS: '9464',
      KNP_PORT: 'tcp://10.0.0.1:9464',
      KNP_PORT_9464_TCP: 'tcp://10.0.0.1:9464',
      KNP_PORT_9464_TCP_ADDR: '10.0.0.1',
      KNP_EXPORTER_SERVICE_HOST: '10.0.0.2',
      KNP_EXPORTER_PORT: 'tcp://10.0.0.2:1',
    };
    expect((await load({ env })).config).toEqual(defaultConfig());
    expect(await refusal({ env: { KNP_PORT: '9464' } })).toMatch(/^KNP_PORT: no such variable;/);
  });
});

describe('a wrong key is refused', () => {
  const TOP = 'listen, detail, log, limits, probes, bpf, identity, kubernetes, otlp';
  test.each([
    ['listne: x', `1:1: listne: no such setting; did you mean listen? allowed here: ${TOP}`],
    [
      'probes:\n  tcp:\n    enabld: true',
      '3:5: probes.tcp.enabld: no such setting; did you mean enabled? allowed here: enabled, detail',
    ],
    ['tcp: {}', `1:1: tcp: no such setting; did you mean probes.tcp? allowed here: ${TOP}`],
    ['edges: 5', `1:1: edges: no such setting; did you mean limits.edges? allowed here: ${TOP}`],
    ['zzzzzz: 5', `1:1: zzzzzz: no such setting; allowed here: ${TOP}`],
    ['__proto__: 5', `1:1: __proto__: no such setting; allowed here: ${TOP}`],
    ['constructor: 5', `1:1: constructor: no such setting; allowed here: ${TOP}`],
    ['"a\\e[31m": 5', `1:1: "a\\u001b[31m": no such setting; allowed here: ${TOP}`],
    ['5: 5', `1:1: 5: no such setting; allowed here: ${TOP}`],
    [
      'identity:\n  ranges:\n    - {name: a, cidr: 10.0.0.0/8, colour: 1}',
      '3:35: identity.ranges[0].colour: no such setting; allowed here: name, cidr',
    ],
  ])('%j', async (text, message) => {
    expect(await fileRefusal(text)).toBe(message);
  });

  test('in a variable', async () => {
    expect(await refusal({ env: { KNP_LIMITS_EDGE: '5' } })).toBe(
      'KNP_LIMITS_EDGE: no such variable; did you mean KNP_LIMITS_EDGES? `kubenetprobe config docs` lists all',
    );
    expect(await refusal({ env: { KNP_LOG: '5' } })).toBe(
      'KNP_LOG: no such variable; allowed below it: KNP_LOG_LEVEL, KNP_LOG_FORMAT',
    );
    expect(await refusal({ env: { KNP_QQ: '5' } })).toBe(
      'KNP_QQ: no such variable; `kubenetprobe config docs` lists all',
    );
  });

  test('in a flag', async () => {
    expect(await refusal({ flags: [set('limit.edges', '5')] })).toBe(
      '--set: limit.edges: no such setting; did you mean limits.edges? `kubenetprobe config docs` lists all',
    );
    expect(await refusal({ flags: [set('log', '5')] })).toBe(
      '--set: log: no such setting; allowed below it: log.level, log.format',
    );
  });
});

describe('a wrong value is refused', () => {
  const HOST_PORT = 'HOST:PORT, such as 0.0.0.0:9464, [::1]:9464 or :9464 (all addresses)';
  const CIDR = 'ADDRESS/LENGTH, such as 10.20.0.0/16 or 2001:db8::/32';
  const URL_TEXT =
    'a URL such as http://localhost:4317 or https://otlp.example.com:4317, without user or password';
  const PATTERN =
    'a path of at most 256 characters that starts with "/"; "{name}" stands for one segment, "*" as the last segment for all the rest; no query';
  const BUCKETS = 'a list of 1 to 24 positive numbers, each larger than the one before';
  test.each([
    ['listen: 9464', `1:9: listen: found 9464; allowed: ${HOST_PORT}`],
    ['listen: localhost', `1:9: listen: found "localhost"; allowed: ${HOST_PORT}`],
    ['listen: "1.2.3:80"', `1:9: listen: found "1.2.3:80"; allowed: ${HOST_PORT}`],
    ['listen: "::1:80"', `1:9: listen: found "::1:80"; allowed: ${HOST_PORT}`],
    ['listen: "a:65536"', `1:9: listen: found "a:65536"; allowed: ${HOST_PORT}`],
    ['listen:', `1:8: listen: found nothing; allowed: ${HOST_PORT}`],
    ['detail: pods', '1:9: detail: found "pods"; allowed: namespace, workload, pod; did you mean pod?'],
    ['detail: []', '1:9: detail: found an empty list; allowed: namespace, workload, pod'],
    [
      'log: {level: infos}',
      '1:14: log.level: found "infos"; allowed: trace, debug, info, warn, error, fatal, silent; did you mean info?',
    ],
    ['probes: {tcp: {enabled: yes}}', '1:25: probes.tcp.enabled: found "yes"; allowed: true or false'],
    [
      'probes: {tcp: [1]}',
      '1:15: probes.tcp: found a list; allowed: a mapping with the keys enabled, detail',
    ],
    ['probes: no', `1:9: probes: found "no"; allowed: a mapping with the keys ${PROBE_NAMES}`],
    ['limits: {edges: 63}', '1:17: limits.edges: found 63; allowed: a whole number from 64 to 1048576'],
    [
      'limits: {edges: 1e9}',
      '1:17: limits.edges: found 1000000000; allowed: a whole number from 64 to 1048576',
    ],
    ['limits: {edges: 64.5}', '1:17: limits.edges: found 64.5; allowed: a whole number from 64 to 1048576'],
    ['limits: {edges: .nan}', '1:17: limits.edges: found NaN; allowed: a whole number from 64 to 1048576'],
    ['limits: {edges: "100"}', '1:17: limits.edges: found "100"; allowed: a whole number from 64 to 1048576'],
    [
      'probes: {http: {sampling: {ratio: 1.1}}}',
      '1:35: probes.http.sampling.ratio: found 1.1; allowed: a number from 0 to 1',
    ],
    [
      'probes: {http: {duration_buckets_seconds: [1, 1]}}',
      `1:43: probes.http.duration_buckets_seconds: found a list; allowed: ${BUCKETS}`,
    ],
    [
      'probes: {http: {duration_buckets_seconds: []}}',
      `1:43: probes.http.duration_buckets_seconds: found an empty list; allowed: ${BUCKETS}`,
    ],
    [
      'probes: {http: {routes: {patterns: [{pattern: users}]}}}',
      `1:47: probes.http.routes.patterns[0].pattern: found "users"; allowed: ${PATTERN}`,
    ],
    [
      'probes: {http: {routes: {patterns: [{pattern: /a?b}]}}}',
      `1:47: probes.http.routes.patterns[0].pattern: found "/a?b"; allowed: ${PATTERN}`,
    ],
    [
      'probes: {http: {routes: {patterns: [{pattern: "/*/b"}]}}}',
      `1:47: probes.http.routes.patterns[0].pattern: found "/*/b"; allowed: ${PATTERN}`,
    ],
    ['identity: {ranges: [{name: a}]}', `1:21: identity.ranges[0].cidr: missing; allowed: ${CIDR}`],
    [
      'identity: {ranges: [{name: a, cidr: 10.0.0.0/33}]}',
      `1:37: identity.ranges[0].cidr: found "10.0.0.0/33"; allowed: ${CIDR}`,
    ],
    [
      'identity: {ranges: [{name: "a\\nb", cidr: "::/0"}]}',
      '1:28: identity.ranges[0].name: found "a\\nb"; allowed: 1 to 63 printable characters',
    ],
    ['identity: {proc_path: proc}', '1:23: identity.proc_path: found "proc"; allowed: an absolute path'],
    ['kubernetes: {enabled: maybe}', '1:23: kubernetes.enabled: found "maybe"; allowed: auto, true or false'],
    [
      'otlp: {traces: {endpoint: "localhost:4317"}}',
      `1:27: otlp.traces.endpoint: found "localhost:4317"; allowed: ${URL_TEXT}`,
    ],
    [
      '[1]',
      '1:1: found a list; allowed: a mapping with the keys listen, detail, log, limits, probes, bpf, identity, kubernetes, otlp',
    ],
  ])('%j', async (text, message) => {
    expect(await fileRefusal(text)).toBe(message);
  });

  test('a long one is cut', async () => {
    expect(await fileRefusal(`detail: ${'x'.repeat(5000)}`)).toBe(
      `1:9: detail: found "${'x'.repeat(59)}…; allowed: namespace, workload, pod`,
    );
  });

  test('in a variable, and in a flag', async () => {
    expect(await refusal({ env: { KNP_LISTEN: 'x' } })).toBe(
      `KNP_LISTEN: listen: found "x"; allowed: ${HOST_PORT}`,
    );
    expect(await refusal({ flags: [set('probes.tcp.enabled', 'on')] })).toBe(
      '--set: probes.tcp.enabled: found "on"; allowed: true or false',
    );
    expect(await refusal({ env: { KNP_IDENTITY_RANGES: '[{' } })).toBe(
      'KNP_IDENTITY_RANGES: identity.ranges: the value is neither JSON nor YAML',
    );
  });

  test('even where a stronger source gives a right one', async () => {
    const path = file('listen: x');
    expect(await refusal({ file: path, env: { KNP_LISTEN: ':1' }, flags: [set('listen', ':2')] })).toBe(
      `${path}:1:9: listen: found "x"; allowed: ${HOST_PORT}`,
    );
  });

  test('all of them at once, one line each', async () => {
    const path = file('listen: x\ndetail: y\n');
    const message = await refusal({ file: path, env: { KNP_LOG_LEVEL: 'z', KNP_FOO: '1' } });
    expect(message.split('\n').map((line) => line.replace(path, 'FILE').split(': found')[0])).toEqual([
      'FILE:1:9: listen',
      'FILE:2:9: detail',
      'KNP_FOO: no such variable; `kubenetprobe config docs` lists all',
      'KNP_LOG_LEVEL: log.level',
    ]);
  });
});

describe('a file that cannot be used is refused', () => {
  test.each([
    [
      'a: [1',
      '1:6: not valid YAML: Flow sequence in block collection must be sufficiently indented and end with a ]',
    ],
    ['a: 1\na: 2', '2:1: not valid YAML: Map keys must be unique'],
    ['a: *b', '1:1: not valid YAML: Unresolved alias (the anchor must be set before the alias): b'],
    [
      'a: 1\n---\nb: 2',
      '2:1: not valid YAML: Source contains multiple documents; please use YAML.parseAllDocuments()',
    ],
    ['a: !!js/function 1', '1:4: not valid YAML: Unresolved tag: tag:yaml.org,2002:js/function'],
  ])('%j', async (text, message) => {
    expect(await fileRefusal(text)).toBe(message);
  });

  test('aliases that multiply without end', async () => {
    const lines = ['a0: &a0 [x, x, x, x, x, x, x, x, x, x]'];
    for (let i = 1; i < 9; i++)
      lines.push(
        `a${i}: &a${i} [${Array(10)
          .fill(`*a${i - 1}`)
          .join(', ')}]`,
      );
    expect(await fileRefusal(lines.join('\n'))).toBe(
      '1:1: not valid YAML: Excessive alias count indicates a resource exhaustion attack',
    );
  });

  test('missing, a directory, too large, not text', async () => {
    const missing = join(folder, 'missing.yaml');
    expect(await refusal({ file: missing })).toBe(
      `--config: cannot read the configuration file ${JSON.stringify(missing)}: there is no such file`,
    );
    expect(await refusal({ env: { KNP_CONFIG: '/nowhere/x' } })).toBe(
      'KNP_CONFIG: cannot read the configuration file "/nowhere/x": there is no such file',
    );
    const directory = join(folder, 'd');
    mkdirSync(directory);
    expect(await refusal({ file: directory })).toMatch(/: it is a directory$/);
    expect(await refusal({ file: file('#'.repeat((1 << 20) + 1)) })).toMatch(/: it is larger than 1 MiB$/);
    expect(await refusal({ file: file(Uint8Array.of(0xff, 0xfe, 0x00)) })).toMatch(/: it is not UTF-8 text$/);
  });
});

describe('secrets', () => {
  const HEADERS =
    'a mapping from a lower-case header name to a text, to {env: VARIABLE} or to {file: PATH} that holds the value';
  test('a wrong one is not printed', async () => {
    expect(await fileRefusal('otlp: {traces: {headers: {a: {evn: s3cret}}}}')).toBe(
      `1:30: otlp.traces.headers.a: wrong value (not shown); allowed: ${HEADERS}`,
    );
    expect(await fileRefusal('otlp: {traces: {headers: s3cret}}')).toBe(
      `1:26: otlp.traces.headers: wrong value (not shown); allowed: ${HEADERS}`,
    );
    expect(await fileRefusal('otlp: {traces: {headers: {Auth: s3cret}}}')).toBe(
      `1:27: otlp.traces.headers: found the key Auth; allowed: ${HEADERS}`,
    );
    const env = { KNP_OTLP_TRACES_HEADERS: '{authorization: "s3cret' };
    expect(await refusal({ env })).toBe(
      'KNP_OTLP_TRACES_HEADERS: otlp.traces.headers: the value is neither JSON nor YAML',
    );
  });

  test('one whose variable or file is missing is refused where it was configured', async () => {
    const path = file('otlp:\n  traces:\n    enabled: true\n    headers: {authorization: {env: TOKEN}}\n');
    expect(await refusal({ file: path })).toBe(
      `${path}:4:14: otlp.traces.headers: header authorization: the variable TOKEN is not set`,
    );
    expect((await load({ file: path, env: { TOKEN: 'x' } })).config.otlp.traces.headers).toEqual({
      authorization: { env: 'TOKEN' },
    });
    const env = { KNP_OTLP_METRICS_ENABLED: 'true', KNP_OTLP_METRICS_HEADERS: '{a: {file: /nowhere/token}}' };
    expect(await refusal({ env })).toBe(
      'KNP_OTLP_METRICS_HEADERS: otlp.metrics.headers: header a: cannot read the file "/nowhere/token" (ENOENT)',
    );
  });
});
