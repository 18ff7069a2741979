// What the chart runs: the image's layout as the Dockerfile makes it, and the agent's measuring part with exactly the
// capabilities that the chart grants, and with each of them taken away.
import { execFileSync } from 'node:child_process';
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, parseAllDocuments } from 'yaml';

const root = join(import.meta.dirname, '../..');
const image = mkdtempSync(join(tmpdir(), 'knp-chart-image-'));
afterAll(() => rmSync(image, { recursive: true, force: true }));

const manifest = readFileSync(join(root, 'charts/kubenetprobe.yaml'), 'utf8');
const objects = parseAllDocuments(manifest).map((document) => document.toJS());
const podSpec = objects.find(({ kind }) => kind === 'DaemonSet').spec.template.spec;
const [container] = podSpec.containers;
const granted: string[] = container.securityContext.capabilities.add.map((name: string) =>
  name.toLowerCase(),
);

interface Copy {
  readonly source: string;
  readonly target: string;
}

/** What the last stage takes from the first. */
function copies(): Copy[] {
  const dockerfile = readFileSync(join(root, 'Dockerfile'), 'utf8');
  return [...dockerfile.matchAll(/^COPY --from=build (\S+) (\S+)$/gm)].map(
    ([, source = '', target = '']) => ({
      source,
      target,
    }),
  );
}

function assemble(): void {
  for (const { source, target } of copies()) {
    const to = join(image, target);
    mkdirSync(dirname(to), { recursive: true });
    if (source === '/node') copyFileSync(process.execPath, to);
    else {
      const from = join(root, source.replace('/src/', ''));
      if (existsSync(from)) cpSync(from, to, { recursive: true });
    }
  }
}

/** Runs a program as the container would be run: no variable and no right but those of the manifest. */
function withRights(
  capabilities: readonly string[],
  command: string[],
  env: Record<string, string> = {},
): string {
  const bounding = ['-all', ...capabilities.map((name) => `+${name}`)].join(',');
  const rights = [`--bounding-set=${bounding}`, '--inh-caps=-all', '--no-new-privs'];
  const all = { PATH: '/usr/sbin:/usr/bin:/bin', ...env };
  try {
    return execFileSync('setpriv', [...rights, ...command], {
      cwd: '/',
      env: all,
      encoding: 'utf8',
      stdio: 'pipe',
    });
  } catch (error) {
    const { stdout, stderr } = error as { stdout: string; stderr: string };
    return `failed\n${stdout}${stderr}`;
  }
}

function agent(capabilities: readonly string[], ...args: string[]): string {
  const env = { KNP_CONFIG: join(image, 'config.yaml'), KNP_KUBERNETES_NODE_NAME: 'node-a' };
  return withRights(capabilities, [join(image, 'bin/kubenetprobe'), ...args], env);
}

/** Loads and attaches BPF programs without asking first whether the rights suffice, as the agent does. */
const LOAD = `
  const { openObject } = await import(BUILT + 'dist/kernel/native.js');
  const path = IMAGE + 'build/bpf/core.bpf.o';
  const wanted = ['core_state', 'conntrack_messages'];
  const all = openObject(path).programs.map(({ name }) => name);
  const object = openObject(path, {
    autoload: Object.fromEntries(all.map((name) => [name, wanted.includes(name)])),
  });
  object.load();
  object.program('core_state').attach();
  console.log('attached');
  const { subscribe, readAll } = await import(BUILT + 'dist/kernel/conntrack.js');
  readAll(subscribe(object.program('conntrack_messages')));
  console.log('subscribed');`;

describe('image', () => {
  beforeAll(() => {
    assemble();
    const { data } = objects.find(({ kind }) => kind === 'ConfigMap');
    writeFileSync(join(image, 'config.yaml'), data['config.yaml']);
  });

  test('the second stage takes only what is there', () => {
    const missing = copies().filter(({ target }) => !existsSync(join(image, target)));
    expect(missing).toEqual([]);
    expect(copies().map(({ target }) => target)).toContain('dist/agent');
  });

  test('runs with its own Node, without any package', () => {
    expect(existsSync(join(image, 'node_modules'))).toBe(false);
    const { version } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
    expect(agent(granted, '--version')).toContain(version);
    const effective = parse(agent(granted, 'config', 'effective'));
    expect(effective.bpf.stats).toBe(false);
    expect(effective.kubernetes.node_name).toBe('node-a');
  });

  const isRoot = process.getuid?.() === 0;
  describe.skipIf(!isRoot)('capabilities', () => {
    test('those of the chart are enough to load, attach and read every probe', () => {
      const output = agent(granted, 'doctor');
      expect(output).toMatch(/^preflight +ok /m);
      expect(output).toMatch(/^core +attached +connection state /m);
      expect(output).toMatch(/^stream +attached +payload /m);
      expect(output).toContain('all is well');
    });

    test.for(granted)('without %s the agent says so and does not start', (name) => {
      const fewer = granted.filter((each) => each !== name);
      const output = agent(fewer, 'doctor');
      expect(output).toMatch(new RegExp(`^preflight +FAILED .*lacks CAP_${name.toUpperCase()}`, 'm'));
      expect(output).not.toContain('attached');
    });

    test('none is superfluous', () => {
      const without = (name: string): string[] => granted.filter((each) => each !== name);
      const script = LOAD.replaceAll('IMAGE', JSON.stringify(`${image}/`)).replaceAll(
        'BUILT',
        JSON.stringify(`${root}/`),
      );
      const load = [join(image, 'node/bin/node'), '--input-type=module', '-e', script];
      expect(withRights(granted, load)).toBe('attached\nsubscribed\n');
      expect(withRights(without('bpf'), load)).toMatch(/^failed[\s\S]*EPERM/);
      expect(withRights(without('perfmon'), load)).toMatch(/^failed[\s\S]*EPERM/);
      expect(withRights(without('net_admin'), load)).toMatch(/^failed\nattached\n[\s\S]*netlink[\s\S]*EPERM/);
      expect([...granted].sort()).toEqual(['bpf', 'net_admin', 'perfmon']);
    });
  });
});
