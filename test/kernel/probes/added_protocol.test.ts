// The protocol of docs/contributing.md, added to a copy of the tree as the page says, built there, loaded into this kernel,
// counting real traffic: by the page's own test, and by the agent from end to end, beside HTTP/1.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { Agent, createServer, get } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { ROOT } from '../../../scripts/architecture/files.ts';
import { GUEST, nativeOnly } from '../../guests/scale.ts';
import { pageFiles, Tree } from '../../testbed/tree.ts';

const run = promisify(execFile);
const HTTP_REQUESTS = 200;
const TOY_REQUESTS = 300;

let tree: Tree;
let agent: ChildProcess | undefined;

beforeAll(() => {
  if (GUEST !== undefined) return;
  tree = new Tree();
  tree.add(pageFiles(readFileSync(join(ROOT, 'docs/contributing.md'), 'utf8'), 'How to add a protocol'));
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
  tree.run('vitest', 'run', '--project', 'kernel', 'test/kernel/toy/counts.test.ts');
}, 300_000);

/** Starts the agent with both protocols; answers where it listens. */
async function startAgent(): Promise<string> {
  const settings = ['--listen', '127.0.0.1:0', '--log-format', 'json', '--kubernetes', 'false'];
  const off = ['--set', 'probes.tcp.enabled=false'];
  agent = spawn(process.execPath, ['exporter/cli/main.ts', 'run', ...settings, ...off], {
    cwd: tree.root,
    stdio: ['ignore', 'inherit', 'pipe'],
  });
  for await (const line of createInterface({ input: agent.stderr as NodeJS.ReadableStream })) {
    const entry = JSON.parse(line) as { msg: string; url: string; probes: string[] };
    if (entry.msg !== 'measuring') continue;
    expect(entry.probes).toEqual(expect.arrayContaining(['http', 'toy']));
    return entry.url;
  }
  throw new Error('the agent has ended');
}

/** The page's peers. */
async function toyTraffic() {
  const page = readFileSync(join(tree.root, 'test/kernel/toy/counts.test.ts'), 'utf8');
  const script = /const PEERS = `([\s\S]*?)`;/.exec(page)?.[1] ?? '';
  const { stdout } = await run('python3', ['-c', script, `${TOY_REQUESTS}`, '16', '3']);
  return JSON.parse(stdout) as {
    port: number;
    server: Record<string, number>;
    client: Record<string, number>;
  };
}

/** Requests of HTTP/1 on one connection; every fourth is answered by 503. Answers the server's port. */
async function httpTraffic(): Promise<number> {
  let served = 0;
  const server = createServer((_, response) => {
    response.statusCode = served++ % 4 === 3 ? 503 : 200;
    response.end('here');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const keepAlive = new Agent({ keepAlive: true, maxSockets: 1 });
  for (let i = 0; i < HTTP_REQUESTS; i++) {
    const [response] = await once(
      get({ port, host: '127.0.0.1', path: '/here', agent: keepAlive }),
      'response',
    );
    response.resume();
    await once(response, 'end');
  }
  keepAlive.destroy();
  server.close();
  await once(server, 'close');
  return port;
}

/** Counts of a histogram's series at a port, by two labels of which the first that is there names the row. */
function counts(
  exposition: string,
  metric: string,
  port: number,
  by: readonly string[][],
): Record<string, number> {
  const rows: Record<string, number> = {};
  for (const [, labels = '', value] of exposition.matchAll(
    new RegExp(`^${metric}_count\\{(.*)\\} (\\S+)$`, 'gm'),
  )) {
    const label = (name: string) => new RegExp(`(?:^|,)${name}="([^"]*)"`).exec(labels)?.[1];
    if (label('server_port') !== String(port)) continue;
    const row = by.map((names) => names.map(label).find((found) => found !== undefined)).join(' ');
    rows[row] = (rows[row] ?? 0) + Number(value);
  }
  return rows;
}

test('the agent counts it and HTTP/1 beside it', async (context) => {
  nativeOnly(context, 'compiles');
  const url = await startAgent();
  const [{ port, ...ledgers }, httpPort] = await Promise.all([toyTraffic(), httpTraffic()]);
  const counted = async () => {
    const exposition = await (await fetch(`${url}/metrics`)).text();
    const of = (side: string) => ({
      toy: counts(exposition, `knp_toy_${side}_request_duration_seconds`, port, [
        ['toy_operation'],
        ['toy_status', 'error_type'],
      ]),
      http: counts(exposition, `http_${side}_request_duration_seconds`, httpPort, [
        ['http_request_method'],
        ['http_response_status_code'],
      ]),
    });
    return { client: of('client'), server: of('server') };
  };
  const http = { 'GET 200': HTTP_REQUESTS * 0.75, 'GET 503': HTTP_REQUESTS * 0.25 };
  // A path that is new waits for its route.
  await expect.poll(counted, { timeout: 20_000, interval: 500 }).toEqual({
    client: { toy: ledgers.client, http },
    server: { toy: ledgers.server, http },
  });
  const status = (await (await fetch(`${url}/api/status`)).json()) as {
    probes: readonly { readonly name: string; readonly state: string }[];
  };
  expect(Object.fromEntries(status.probes.map(({ name, state }) => [name, state]))).toMatchObject({
    stream: 'attached',
    http: 'attached',
    toy: 'attached',
  });
}, 120_000);
