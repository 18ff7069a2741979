// The probe of docs/contributing.md, added to a copy of the tree as the page says, built there, loaded into this kernel,
// counting real traffic: by the page's own test, and by the agent from end to end.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { PROBES } from '../../../exporter/probes/definitions.ts';
import { ROOT } from '../../../scripts/architecture/files.ts';
import { GUEST, nativeOnly } from '../../guests/scale.ts';
import { pageFiles, Tree } from '../../testbed/tree.ts';

let tree: Tree | undefined;
let agent: ChildProcess | undefined;

beforeAll(() => {
  if (GUEST !== undefined) return;
  tree = new Tree();
  tree.add(pageFiles(readFileSync(join(ROOT, 'docs/contributing.md'), 'utf8'), 'How to add a probe'));
  tree.run('make', 'bpf');
}, 300_000);

afterAll(async () => {
  if (agent !== undefined && agent.exitCode === null) {
    agent.kill('SIGTERM');
    await once(agent, 'exit');
  }
  tree?.remove();
});

test("the page's own test passes", (context) => {
  nativeOnly(context, 'compiles');
  tree?.run('vitest', 'run', '--project', 'kernel', 'test/kernel/udpdrops/counts.test.ts');
});

/** The page's traffic: port, and datagrams that did not arrive. */
function overflow(tree: Tree): [port: number, dropped: number] {
  const page = readFileSync(join(tree.root, 'test/kernel/udpdrops/counts.test.ts'), 'utf8');
  const script = /const OVERFLOW = `([\s\S]*?)`;/.exec(page)?.[1] ?? '';
  const printed = execFileSync('python3', ['-c', script], { encoding: 'utf8' });
  return printed.split(' ').map(Number) as [number, number];
}

test('the agent runs it, shows its series and says how it is', async (context) => {
  nativeOnly(context, 'compiles');
  if (tree === undefined) throw new Error('there is no tree');
  const off = PROBES.flatMap(({ name }) => ['--set', `probes.${name}.enabled=false`]);
  const args = [
    'exporter/cli/main.ts',
    'run',
    '--listen',
    '127.0.0.1:0',
    '--log-format',
    'json',
    '--kubernetes',
    'false',
  ];
  agent = spawn(process.execPath, [...args, ...off], {
    cwd: tree.root,
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  let url = '';
  for await (const line of createInterface({ input: agent.stderr as NodeJS.ReadableStream })) {
    const entry = JSON.parse(line) as { msg: string; url: string; probes: string[] };
    if (entry.msg !== 'measuring') continue;
    expect(entry.probes).toEqual(['udpdrops']);
    url = entry.url;
    break;
  }
  const [port, dropped] = overflow(tree);
  const exposition = await (await fetch(`${url}/metrics`)).text();
  const series = `knp_udpdrops_datagrams_total{network_local_port="${port}",network_type="ipv4"}`;
  expect(exposition).toContain(`\n${series} ${dropped}\n`);
  expect(exposition).toContain('knp_probe_ready{probe="udpdrops"} 1');
  expect(exposition).toContain('knp_agent_lost_total{stage="udpdrops_ports_full"} 0');
  const status = (await (await fetch(`${url}/api/status`)).json()) as Record<string, unknown>;
  expect(status).toMatchObject({ ready: true, problems: [], lost: { udpdrops_ports_full: 0 } });
  expect(status.probes).toContainEqual(
    expect.objectContaining({
      name: 'udpdrops',
      state: 'attached',
      hooks: [expect.objectContaining({ hooks: ['tp_btf/udp_fail_queue_rcv_skb'] })],
    }),
  );
  expect(status.maps).toContainEqual({ name: 'udpdrops_ports', entries: expect.any(Number), capacity: 1024 });
});
