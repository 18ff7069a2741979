// The agent as a process: starts, measures, serves, says what prevents it, and ends without leaving anything.
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, test } from 'vitest';
import { PROBES } from '../../exporter/probes/definitions.ts';
import manifest from '../../package.json' with { type: 'json' };
import {
  BIN,
  expectGone,
  killLeftovers,
  programsOf,
  type RunningProcess,
  run,
  start,
} from './cli_process.ts';

afterEach(killLeftovers);

async function startAgent(args: readonly string[] = [], env: Record<string, string> = {}) {
  const agent = start([BIN, 'run', '--listen', '127.0.0.1:0', ...args], { env });
  const [line] = await agent.until('stderr', /^.*"msg":"measuring".*$/m);
  const { url } = JSON.parse(line) as { url: string };
  return { agent, url };
}

async function fetchText(url: string): Promise<{ status: number; text: string }> {
  const response = await fetch(url);
  return { status: response.status, text: await response.text() };
}

/** The value of a series whose labels contain all of `labels`. */
function sample(text: string, name: string, ...labels: string[]): number[] {
  return text
    .split('\n')
    .filter((line) => line.startsWith(name) && labels.every((label) => line.includes(label)))
    .map((line) => Number(line.split(' ').at(-1)));
}

async function stopped(agent: RunningProcess, signal: NodeJS.Signals) {
  agent.child.kill(signal);
  return agent.ended;
}

describe('a running agent', () => {
  test('counts what a client and a server did, from the first scrape on', async () => {
    const { agent, url } = await startAgent();
    const server = createServer((socket) => socket.end('x'.repeat(50_000)));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    for (let i = 0; i < 20; i++) {
      const socket = connect(port, '127.0.0.1');
      let received = 0;
      for await (const data of socket) received += (data as Buffer).length;
      expect(received).toBe(50_000);
    }
    const { status, text } = await fetchText(`${url}/metrics`);
    expect(status).toBe(200);
    const edge = [`server_port="${port}"`, 'reporter="client"'];
    expect(sample(text, 'knp_tcp_received_bytes_total', ...edge)).toEqual([1_000_000]);
    expect(sample(text, 'knp_tcp_connections_opened_total', ...edge)).toEqual([20]);
    expect(sample(text, 'knp_build_info', `version="${manifest.version}"`)).toEqual([1]);
    expect(sample(text, 'knp_probe_ready', 'probe="tcp"')).toEqual([1]);
    expect(sample(text, 'knp_bpf_program_runs_total', 'program="core_state"')[0]).toBeGreaterThan(20);
    expect(sample(text, 'knp_bpf_map_capacity', 'map="edges"')).toEqual([16_384]);
    server.close();
    expect((await fetchText(`${url}/healthz`)).status).toBe(200);
    expect((await fetchText(`${url}/readyz`)).status).toBe(200);
    expect((await stopped(agent, 'SIGTERM')).code).toBe(0);
  });

  test('doctor and top ask it instead of loading anything themselves', async () => {
    const { agent, url } = await startAgent();
    const listen = url.slice('http://'.length);
    const wrap = ['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups', '--'];
    const doctor = await run(['doctor', '--json', '--listen', listen], { wrap });
    const diagnosis = JSON.parse(doctor.stdout);
    expect(diagnosis).toMatchObject({
      ok: true,
      source: `agent at ${url}, process ${agent.child.pid}`,
      agent: { version: manifest.version, pid: agent.child.pid, ready: true },
    });
    const states = diagnosis.agent.probes.map(
      ({ name, state }: Record<string, string>) => `${name} ${state}`,
    );
    expect(states).toEqual(expect.arrayContaining(['core attached', 'tcp attached']));
    expect(diagnosis.agent.probes[0].hooks[0].hooks).toContain('tp_btf/inet_sock_set_state');
    expect(doctor.code).toBe(0);
    const text = await run(['doctor', '--from', url]);
    expect(text.stdout).toMatch(/^core +attached +connection state +tp_btf\/inet_sock_set_state/m);
    const top = await run(['top', '--once', '--json', '--interval', '0.1', '--listen', listen], { wrap });
    expect(JSON.parse(top.stdout)).toMatchObject({ source: `agent at ${url}` });
    await stopped(agent, 'SIGTERM');
  });

  test.each(['SIGTERM', 'SIGINT'] as const)('%s ends it with 0; no program is left', async (signal) => {
    const { agent } = await startAgent();
    const ids = programsOf(agent.child.pid as number);
    expect(ids.length).toBeGreaterThan(3);
    const { code, stderr } = await stopped(agent, signal);
    expect(code).toBe(0);
    const messages = stderr
      .trimEnd()
      .split('\n')
      .map((line) => (JSON.parse(line) as { msg: string }).msg);
    expect(messages.slice(-2)).toEqual(['stopping', 'stopped']);
    await expectGone(ids);
  });

  test('kill -9 leaves no program either', async () => {
    const { agent } = await startAgent();
    const ids = programsOf(agent.child.pid as number);
    expect(ids.length).toBeGreaterThan(3);
    await stopped(agent, 'SIGKILL');
    await expectGone(ids);
  });

  test('a client that never reads to its end does not keep it from ending; a second signal ends it at once', async () => {
    const { agent, url } = await startAgent();
    const { hostname, port } = new URL(url);
    const stuck = connect(Number(port), hostname);
    stuck.on('error', () => undefined);
    await once(stuck, 'connect');
    stuck.write('GET /api/trace HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n');
    await once(stuck, 'data');
    agent.child.kill('SIGTERM');
    await agent.until('stderr', /"stopping"/);
    agent.child.kill('SIGTERM');
    const { code } = await agent.ended;
    // 143 where the second signal came in time, 0 where the first had done its work already.
    expect([0, 143]).toContain(code);
    stuck.destroy();
  });

  test('logs are readable on demand, and hold no secret of the configuration', async () => {
    const folder = mkdtempSync(join(tmpdir(), 'knp-cli-run-'));
    try {
      const file = join(folder, 'agent.yaml');
      writeFileSync(
        file,
        'otlp: {metrics: {enabled: true, endpoint: "http://127.0.0.1:1", headers: {a: s3cret}}}\n',
      );
      const agent = start([
        BIN,
        'run',
        '--listen',
        '127.0.0.1:0',
        '--config',
        file,
        '--log-format',
        'pretty',
      ]);
      await agent.until(
        'stderr',
        /^\d\d:\d\d:\d\d\.\d{3} INFO {2}measuring version=\S+ url=http:\S+ probes=\["core","stream","http","redis","tcp"\]$/m,
      );
      const { code, stderr } = await stopped(agent, 'SIGTERM');
      expect(code).toBe(0);
      expect(stderr).not.toContain('s3cret');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  test('whoever reads the logs may go away: it measures on, and ends with 0', async () => {
    const { agent, url } = await startAgent();
    agent.child.stderr?.destroy();
    expect((await fetchText(`${url}/readyz`)).status).toBe(200);
    expect((await stopped(agent, 'SIGTERM')).code).toBe(0);
  });

  test('with all probes turned off it serves its own metrics and loads nothing', async () => {
    const off = PROBES.map(({ name }) => [`KNP_PROBES_${name.toUpperCase()}_ENABLED`, 'false']);
    const { agent, url } = await startAgent([], Object.fromEntries(off));
    expect(programsOf(agent.child.pid as number)).toEqual([]);
    const { text } = await fetchText(`${url}/metrics`);
    expect(text).toContain('knp_build_info');
    expect(text).not.toContain('knp_tcp_');
    expect((await fetchText(`${url}/readyz`)).status).toBe(200);
    await stopped(agent, 'SIGTERM');
  });
});

describe('what prevents it is said in one sentence', () => {
  test('a port that is taken', async () => {
    const holder = createServer();
    holder.listen(0, '127.0.0.1');
    await once(holder, 'listening');
    const { port } = holder.address() as AddressInfo;
    const outcome = await run(['run', '--listen', `127.0.0.1:${port}`]);
    holder.close();
    expect(outcome).toEqual({
      code: 1,
      stdout: '',
      stderr: `kubenetprobe: Cannot listen on 127.0.0.1:${port}: another program holds this port; stop it (\`ss -ltnp 'sport = :${port}'\` names it) or choose another address with --listen HOST:PORT.\n`,
    });
  });

  test('an address that this host does not have', async () => {
    const { code, stderr } = await run(['run', '--listen', '192.0.2.1:9464']);
    expect(code).toBe(1);
    expect(stderr).toContain(
      'kubenetprobe: Cannot listen on 192.0.2.1:9464: this host does not have that address;',
    );
  });

  test('Kubernetes demanded where there is none', async () => {
    const env = { KNP_KUBERNETES_ENABLED: 'true', HOME: '/nonexistent', KUBECONFIG: '' };
    const { code, stderr } = await run(['run', '--listen', '127.0.0.1:0'], { env });
    expect(code).toBe(2);
    expect(stderr).toContain(
      'kubenetprobe: kubernetes.enabled is true, but there is neither a service account nor a kubeconfig',
    );
  });
});
