// The command line through bin/kubenetprobe: help, wrong arguments, wrong configuration, missing rights.
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import manifest from '../../package.json' with { type: 'json' };
import { BIN, killLeftovers, run, start } from './cli_process.ts';

const folder = mkdtempSync(join(tmpdir(), 'knp-cli-'));
chmodSync(folder, 0o755);
afterEach(killLeftovers);
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

const COMMANDS = ['run', 'doctor', 'top', 'trace', 'map', 'metrics', 'config'];
const AS_NOBODY = ['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups', '--'];
const without = (capabilities: readonly string[]) => [
  'setpriv',
  ...['bounding-set', 'inh-caps'].map(
    (set) => `--${set}=${capabilities.map((name) => `-${name}`).join(',')}`,
  ),
  '--',
];

describe('the start script', () => {
  test('works from any folder and through symbolic links, with nothing but the system on PATH', async () => {
    mkdirSync(join(folder, 'bin'));
    symlinkSync(BIN, join(folder, 'bin', 'one'));
    symlinkSync('bin/one', join(folder, 'two'));
    const outcome = await start([join(folder, 'two'), '--version'], {
      cwd: '/',
      env: { PATH: '/usr/bin:/bin' },
    }).ended;
    expect(outcome).toEqual({ code: 0, stdout: `${manifest.version}\n`, stderr: '' });
  });

  test('without a build or without Node it says what to do', async () => {
    mkdirSync(join(folder, 'tree', 'bin'), { recursive: true });
    const copy = join(folder, 'tree', 'bin', 'kubenetprobe');
    copyFileSync(BIN, copy);
    chmodSync(copy, 0o755);
    const old = join(folder, 'old');
    mkdirSync(old);
    writeFileSync(join(old, 'node'), '#!/bin/sh\necho v20.19.0\n', { mode: 0o755 });
    const root = join(folder, 'tree');
    expect(await start([copy, '--version'], { env: { PATH: `${old}:/usr/bin:/bin` } }).ended).toMatchObject({
      code: 1,
      stderr: `kubenetprobe: Node.js 24 or newer is needed; run 'make build' in ${root}, or put it on PATH\n`,
    });
    writeFileSync(join(old, 'node'), '#!/bin/sh\necho v24.1.0\n', { mode: 0o755 });
    expect(await start([copy, '--version'], { env: { PATH: `${old}:/usr/bin:/bin` } }).ended).toMatchObject({
      code: 1,
      stderr: `kubenetprobe: not built yet; run 'make build' in ${root}\n`,
    });
  });
});

describe('help', () => {
  test('names every command, with examples', async () => {
    const { code, stdout } = await run(['--help']);
    expect(code).toBe(0);
    for (const command of COMMANDS) {
      expect(stdout).toMatch(new RegExp(`^  ${command} .*\\S`, 'm'));
    }
    expect(stdout).toContain('Examples:');
  });

  test.each(COMMANDS)('of %s', async (command) => {
    const { code, stdout, stderr } = await run([command, '--help']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(new RegExp(`^Usage: kubenetprobe ${command} `));
    expect(await run(['help', command])).toEqual({ code: 0, stdout, stderr: '' });
  });

  test('no arguments at all: the help, as an error', async () => {
    const { code, stdout, stderr } = await run([]);
    expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
    expect(stderr).toContain('Usage: kubenetprobe');
  });

  test('a reader that goes away early is no error', async () => {
    const outcome = await start(['bash', '-c', `set -o pipefail; ${BIN} metrics | head -1; echo "$?"`]).ended;
    expect(outcome).toEqual({ code: 0, stdout: '# Metrics\n0\n', stderr: '' });
  });
});

describe('wrong arguments end with 2 and one line', () => {
  test.each([
    [['rnu'], "unknown command 'rnu'\n(Did you mean run?)"],
    [['run', '--lisen', 'x'], "unknown option '--lisen'\n(Did you mean --listen?)"],
    [['run', 'now'], "too many arguments for 'run'. Expected 0 arguments but got 1: now."],
    [
      ['run', '--set', 'x'],
      "option '--set <name=value>' argument 'x' is invalid. it must be NAME=VALUE, such as limits.edges=65536.",
    ],
    [
      ['top', '--by', 'size'],
      "option '--by <key>' argument 'size' is invalid. Allowed choices are bytes, connections, retransmits, rtt, requests, errors, p99.",
    ],
    [
      ['top', '--interval', '0'],
      "option '--interval <seconds>' argument '0' is invalid. it must be 0.1 to 3600 seconds.",
    ],
    [['top', '--from', 'https://x'], '--from: found "https://x"; allowed: http://HOST:PORT or HOST:PORT'],
  ])('%j', async (args, message) => {
    expect(await run(args)).toEqual({ code: 2, stdout: '', stderr: `kubenetprobe: ${message}\n` });
  });
});

describe('a wrong configuration ends with 2 and says where', () => {
  const ALLOWED = 'HOST:PORT, such as 0.0.0.0:9464, [::1]:9464 or :9464 (all addresses)';
  test.each(['run', 'doctor', 'top'])('for %s', async (command) => {
    expect(await run([command, '--listen', 'x'])).toEqual({
      code: 2,
      stdout: '',
      stderr: `kubenetprobe: --listen: listen: found "x"; allowed: ${ALLOWED}\n`,
    });
  });

  test('in the file and in a variable, all at once', async () => {
    const path = file('bad.yaml', 'probes:\n  tcp:\n    enabld: true\n');
    const env = { KNP_LIMITS_EDGES: 'many' };
    expect(await run(['config', 'effective', '--config', path], { env })).toEqual({
      code: 2,
      stdout: '',
      stderr:
        'kubenetprobe: the configuration has 2 mistakes\n' +
        `${path}:3:5: probes.tcp.enabld: no such setting; did you mean enabled? allowed here: enabled, detail\n` +
        'KNP_LIMITS_EDGES: limits.edges: found "many"; allowed: a whole number from 64 to 1048576\n',
    });
  });

  test('a file that this user may not read', async () => {
    const path = file('secret.yaml', 'detail: pod\n');
    chmodSync(path, 0);
    expect(await run(['config', 'effective', '--config', path], { wrap: AS_NOBODY })).toEqual({
      code: 2,
      stdout: '',
      stderr: `kubenetprobe: --config: cannot read the configuration file "${path}": this user may not read it\n`,
    });
  });
});

describe('config', () => {
  test('defaults can be fed back, and then nothing changes', async () => {
    const { stdout } = await run(['config', 'defaults']);
    const path = file('defaults.yaml', stdout);
    const [fed, bare] = await Promise.all([
      run(['config', 'effective', '--json', '--config', path]),
      run(['config', 'effective', '--json']),
    ]);
    expect(fed).toEqual(bare);
    expect(JSON.parse(fed.stdout)).toMatchObject({ listen: '0.0.0.0:9464', detail: 'workload' });
  });

  test('effective shows the strongest source and its name, and no secret', async () => {
    const path = file('good.yaml', 'detail: pod\nlimits:\n  edges: 100\n');
    const env = { KNP_LIMITS_EDGES: '200', KNP_OTLP_TRACES_HEADERS: '{"authorization": "s3cret"}' };
    const { stdout } = await run(['config', 'effective', '-c', path, '--set', 'limits.owners=300'], { env });
    expect(stdout).toContain(`detail: pod # ${path}:1:9\n`);
    expect(stdout).toContain('  edges: 200 # KNP_LIMITS_EDGES\n');
    expect(stdout).toContain('  owners: 300 # --set\n');
    expect(stdout).toContain('authorization: (hidden)');
    expect(stdout).not.toContain('s3cret');
  });

  test('schema is JSON Schema', async () => {
    const schema = JSON.parse((await run(['config', 'schema'])).stdout);
    expect(schema).toMatchObject({ type: 'object', additionalProperties: false });
  });
});

describe('rights', () => {
  const NO_ROOT = 'KubeNetProbe may not use BPF as this user: run it as root, for example with sudo.';

  test('run as an ordinary user', async () => {
    const outcome = await run(['run', '--listen', '127.0.0.1:0'], { wrap: AS_NOBODY });
    expect(outcome).toEqual({ code: 1, stdout: '', stderr: `kubenetprobe: ${NO_ROOT}\n` });
  });

  test('top as an ordinary user, where no agent runs', async () => {
    const outcome = await run(['top', '--once', '--listen', '127.0.0.1:1'], { wrap: AS_NOBODY });
    expect(outcome).toEqual({
      code: 1,
      stdout: '',
      stderr: `kubenetprobe: no agent answers at http://127.0.0.1:1 (--from names another), and: ${NO_ROOT}\n`,
    });
  });

  test.each([
    { dropped: ['net_admin'], named: 'CAP_NET_ADMIN', these: 'this capability' },
    { dropped: ['bpf', 'sys_admin'], named: 'CAP_BPF', these: 'this capability' },
    { dropped: ['perfmon', 'sys_admin'], named: 'CAP_PERFMON', these: 'this capability' },
    { dropped: ['bpf', 'perfmon', 'sys_admin'], named: 'CAP_BPF, CAP_PERFMON', these: 'these capabilities' },
  ])('run as root without $dropped', async ({ dropped, named, these }) => {
    const outcome = await run(['run', '--listen', '127.0.0.1:0'], { wrap: without(dropped) });
    expect(outcome).toEqual({
      code: 1,
      stdout: '',
      stderr: `kubenetprobe: This process lacks ${named}: run it as root, or add ${these} to its container or service.\n`,
    });
  });

  test('doctor as an ordinary user says the same, and still what it can see', async () => {
    const { code, stdout } = await run(['doctor', '--json', '--listen', '127.0.0.1:1'], { wrap: AS_NOBODY });
    expect(code).toBe(1);
    const diagnosis = JSON.parse(stdout);
    expect(diagnosis).toMatchObject({ ok: false });
    expect(diagnosis.agent).toBeUndefined();
    expect(diagnosis.checks).toContainEqual({ name: 'preflight', state: 'failed', detail: NO_ROOT });
    expect(diagnosis.checks).toContainEqual(expect.objectContaining({ name: 'BTF', state: 'ok' }));
  });
});

describe('metrics', () => {
  test('prints the reference, and the same as JSON', async () => {
    const [text, json] = await Promise.all([run(['metrics']), run(['metrics', '--json'])]);
    const metrics = JSON.parse(json.stdout) as { prometheus_name: string; description: string }[];
    expect(metrics.length).toBeGreaterThan(30);
    for (const { prometheus_name, description } of metrics) {
      expect(text.stdout).toContain(`### \`${prometheus_name}\`\n\n${description}\n`);
    }
  });
});
