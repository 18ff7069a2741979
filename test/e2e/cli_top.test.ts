// `top`: real traffic measured by itself, figures of an agent, and a live view on a real terminal that is given back as
// it was, whatever the names hold and however it ends.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server } from 'node:net';
import { afterAll, afterEach, describe, expect, test } from 'vitest';
import type { EdgeRow } from '../../exporter/cli/edges.ts';
import {
  BIN,
  expectGone,
  killLeftovers,
  programsInKernel,
  programsOf,
  type RunningProcess,
  run,
  serve,
  start,
  startOnTerminal,
} from './cli_process.ts';

const closers: (() => void)[] = [];
afterEach(killLeftovers);
afterAll(() => {
  for (const close of closers) close();
});

/** A port on which nothing listens: `--listen` there makes `top` measure for itself. */
const NO_AGENT = ['--listen', '127.0.0.1:1'];

interface Answer {
  source: string;
  edges: EdgeRow[];
}

describe('measuring by itself', () => {
  const RESPONSE = Buffer.alloc(70_000, 'x');
  const REQUEST_BYTES = 1234;

  /** A server in this process that answers each connection of 1,234 bytes with 70,000. */
  async function startServer(): Promise<{ server: Server; port: number }> {
    const server = createServer((socket) => {
      let seen = 0;
      socket.on('data', (data) => {
        seen += data.length;
        if (seen === REQUEST_BYTES) socket.end(RESPONSE);
      });
      socket.on('error', () => undefined);
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    closers.push(() => server.close());
    return { server, port: (server.address() as AddressInfo).port };
  }

  async function request(port: number): Promise<number> {
    const socket = connect(port, '127.0.0.1');
    socket.write(Buffer.alloc(REQUEST_BYTES, 'q'));
    let received = 0;
    for await (const data of socket) received += (data as Buffer).length;
    return received;
  }

  test('--once --json has the bytes and connections that were made, exactly', async () => {
    const { port } = await startServer();
    const top = start([BIN, 'top', '--once', '--json', '--interval', '0.5', ...NO_AGENT]);
    // The child says nothing before it ends, so drive connections until it has.
    let ended = false;
    void top.ended.then(() => {
      ended = true;
    });
    let requests = 0;
    while (!ended) {
      expect(await request(port)).toBe(RESPONSE.length);
      requests++;
    }
    const { code, stdout, stderr } = await top.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const answer = JSON.parse(stdout) as Answer;
    expect(answer.source).toBe('this process (no agent runs)');
    // A connection that was open when it began, and one end of which was already closed, has no name for that end.
    const rows = answer.edges.filter((edge) => edge.port === String(port) && edge.connections_opened > 0);
    expect(rows).toHaveLength(1);
    const [row] = rows as [EdgeRow];
    // It began and ended in the midst of the traffic, so how many it saw is not known; that each was seen whole is.
    const { connections_opened: opened, connections: open } = row;
    expect(opened).toBeGreaterThan(0);
    expect(opened).toBeLessThanOrEqual(requests);
    expect(row.reporters).toEqual(['client', 'server']);
    expect(row.request_bytes).toBeGreaterThanOrEqual((opened - open) * REQUEST_BYTES);
    expect(row.request_bytes % REQUEST_BYTES).toBe(0);
    expect(row.response_bytes).toBeGreaterThanOrEqual((opened - open - 1) * RESPONSE.length);
    expect(row.client.workload).not.toBe('');
  });

  test('HTTP requests and errors of an agent are those that were made', async () => {
    const agent = start([BIN, 'run', '--listen', '127.0.0.1:0']);
    const [line] = await agent.until('stderr', /^.*"msg":"measuring".*$/m);
    const { url } = JSON.parse(line) as { url: string };
    const { server, origin } = await serve({ '/good': () => 'ok', '/bad': () => 500 });
    closers.push(() => server.close());
    for (let i = 0; i < 40; i++) {
      const path = i % 4 === 0 ? '/bad' : '/good';
      // A connection of its own for each: what another test's client keeps open is not counted here.
      const response = await fetch(`${origin}${path}`, { headers: { connection: 'close' } });
      await response.arrayBuffer();
    }
    const args = ['top', '--once', '--json', '--by', 'errors', '--interval', '0.1', '--from', url];
    const { edges } = JSON.parse((await run(args)).stdout) as Answer;
    const rows = edges.filter((edge) => edge.port === new URL(origin).port);
    expect(rows).toMatchObject([{ requests: 40, errors: 10, connections_opened: 40 }]);
    expect(rows[0]?.p99_seconds).toBeGreaterThan(0);
    agent.child.kill('SIGTERM');
    await agent.ended;
  });

  test('--json gives one line per interval until it is told to stop, and leaves no program behind', async () => {
    const top = start([BIN, 'top', '--json', '--interval', '0.3', ...NO_AGENT]);
    await top.until('stdout', /^.*\n.*\n.*\n/);
    const ids = programsOf(top.child.pid as number);
    expect(ids.length).toBeGreaterThan(3);
    expect(programsInKernel()).toEqual(expect.arrayContaining(ids));
    top.child.kill('SIGTERM');
    const { code, stdout, stderr } = await top.ended;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    for (const line of stdout.trimEnd().split('\n')) expect(JSON.parse(line)).toHaveProperty('edges');
    await expectGone(ids);
  });
});

const EVIL = [
  '\\x1b[2J\\x1b[31m',
  '\x1b[2J\x1b[31mred\x1b]0;owned\x07',
  'a\rb\tc',
  '\x9b2J',
  '\u202egnitirw',
  '日本語サービス'.repeat(9),
];

function escaped(text: string): string {
  return text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n');
}

/** An agent's exposition with one edge for each name. */
function exposition(names: readonly string[], bytes: number): string {
  const lines = names.map(
    (name, index) =>
      `knp_tcp_sent_bytes_total{reporter="client",client_workload="${escaped(name)}",client_namespace="",client_kind="Process",server_workload="server${index}",server_namespace="",server_kind="Process",server_port="80",transport="tcp"} ${bytes * (index + 1)}`,
  );
  return `knp_build_info 1\nknp_agent_lost_total{stage="edge_table_full"} 5\n${lines.join('\n')}\n`;
}

/** What top writes to a terminal, without the sequences that it means to write. */
function withoutOwnSequences(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: these are the very sequences
  return text.replace(/\x1b\[(?:\?1049[hl]|\?25[hl]|\?7[hl]|H|K|J|7m|0m)/g, '').replace(/[\r\n]/g, '');
}

describe('reading an agent', () => {
  test('rates between two readings, rows limited, losses told', async () => {
    let reads = 0;
    const { server, origin } = await serve({
      '/metrics': () => exposition(['a', 'b', 'c'], 1_000_000 * ++reads),
    });
    closers.push(() => server.close());
    const { stdout } = await run([
      'top',
      '--once',
      '--json',
      '--interval',
      '0.2',
      '--limit',
      '2',
      '--from',
      origin,
    ]);
    const answer = JSON.parse(stdout);
    expect(answer).toMatchObject({ source: `agent at ${origin}`, lost: { edge_table_full: 5 } });
    expect(answer.edges.map((edge: EdgeRow) => edge.client.workload)).toEqual(['c', 'b']);
    const text = await run(['top', '--once', '--interval', '0.2', '--from', `${origin}/metrics`]);
    expect(text.stdout).toContain('! lost since the start: edge_table_full 5');
  });

  test.each([
    [
      'nothing listens',
      'http://127.0.0.1:1',
      'cannot read http://127.0.0.1:1/metrics: nothing listens there',
    ],
  ])('%s', async (_, from, message) => {
    expect(await run(['top', '--once', '--from', from])).toEqual({
      code: 1,
      stdout: '',
      stderr: `kubenetprobe: ${message}\n`,
    });
  });

  test.each([
    ['another exporter', () => 'up 1\n'],
    ['a web page', () => '<html>\n'],
    ['a broken exposition', () => 'knp_build_info 1\nknp_tcp_sent_bytes_total{x="1 5\n'],
  ])('%s is told apart from an agent', async (_, answer) => {
    const { server, origin } = await serve({ '/metrics': answer });
    closers.push(() => server.close());
    expect(await run(['top', '--once', '--from', origin])).toEqual({
      code: 1,
      stdout: '',
      stderr: `kubenetprobe: ${origin}/ is not an agent of KubeNetProbe\n`,
    });
  });

  test('an answer that is no success', async () => {
    const { server, origin } = await serve({});
    closers.push(() => server.close());
    expect((await run(['top', '--once', '--from', origin])).stderr).toBe(
      `kubenetprobe: cannot read ${origin}/metrics: it answered 404\n`,
    );
  });
});

describe('on a terminal', () => {
  async function openTop(
    options: { rows: number; columns: number; env?: Record<string, string> },
    names: readonly string[] = EVIL,
  ): Promise<{ terminal: RunningProcess; server: Server }> {
    const { server, origin } = await serve({ '/metrics': () => exposition(names, 1000) });
    closers.push(() => server.close());
    const terminal = startOnTerminal(['top', '--interval', '0.3', '--from', origin], options);
    await terminal.until('stdout', /q quit/);
    return { terminal, server: server as unknown as Server };
  }

  /** The terminal's settings are those of before, and the normal screen and the cursor are back. */
  function expectGivenBack(stdout: string): void {
    const [, before] = /BEFORE=(\S+)/.exec(stdout) ?? [];
    const [, after] = /AFTER=(\S+)/.exec(stdout) ?? [];
    expect(before).toBeDefined();
    expect(after).toBe(before);
    expect(stdout.lastIndexOf('\x1b[?1049l')).toBeGreaterThan(stdout.lastIndexOf('\x1b[?1049h'));
    expect(stdout.lastIndexOf('\x1b[?25h')).toBeGreaterThan(stdout.lastIndexOf('\x1b[?25l'));
    expect(stdout.slice(stdout.lastIndexOf('\x1b[?1049l'))).not.toContain('\x1b[?25l');
  }

  test.each([
    ['q', 'q'],
    ['Ctrl-C', '\x03'],
  ])('%s ends it with 0; hostile names are harmless', async (_, key) => {
    const { terminal } = await openTop({ rows: 20, columns: 90 });
    terminal.child.stdin?.write(key);
    await terminal.until('stdout', /AFTER=/);
    const { stdout } = await terminal.ended;
    expect(stdout).toMatch(/CODE=0/);
    expectGivenBack(stdout);
    const shown = stdout.slice(stdout.indexOf('\x1b[?1049h'), stdout.lastIndexOf('\x1b[?1049l'));
    expect(withoutOwnSequences(shown)).not.toMatch(/\p{Cc}|\p{Cf}/u);
    expect(shown).toContain('·[2J·[31mred');
  });

  test('keys sort, and the new order is drawn at once', async () => {
    const { terminal } = await openTop({ rows: 20, columns: 100 });
    terminal.child.stdin?.write('c');
    await terminal.until('stdout', /by connections/);
    terminal.child.stdin?.write('q');
    expectGivenBack((await terminal.ended).stdout);
  });

  test('a resized terminal is filled anew: no line wider, no more lines than fit', async () => {
    const names = Array.from({ length: 60 }, (_, index) => `client-with-a-long-name-${index}`);
    const { terminal } = await openTop({ rows: 40, columns: 150 }, names);
    const [, tty = ''] = await terminal.until('stdout', /TTY=(\S+)/);
    const before = terminal.output.stdout.length;
    execFileSync('stty', ['-F', tty, 'rows', '12', 'cols', '50']);
    const small = await terminal.until('stdout', /.*\n52 more {2}q quit/s);
    terminal.child.stdin?.write('q');
    const { stdout } = await terminal.ended;
    expectGivenBack(stdout);
    expect(small[0].length).toBeGreaterThan(before);
    const picture = stdout.slice(0, stdout.lastIndexOf('\x1b[?7h')).split('\x1b[H').at(-1) ?? '';
    const lines = picture.split('\r\n');
    expect(lines).toHaveLength(12);
    for (const line of lines) expect([...withoutOwnSequences(line)].length).toBeLessThanOrEqual(50);
  });

  test.each(['SIGTERM', 'SIGHUP', 'SIGINT'] as const)('%s gives the terminal back', async (signal) => {
    const { terminal } = await openTop({ rows: 20, columns: 90 });
    const [, tty = ''] = await terminal.until('stdout', /TTY=\/dev\/(\S+)/);
    const pids = execFileSync('ps', ['-t', tty, '-o', 'pid=,args='], { encoding: 'utf8' });
    const pid = Number(/^\s*(\d+) \S*node\S* .*main\.js top/m.exec(pids)?.[1]);
    expect(pid).toBeGreaterThan(1);
    process.kill(pid, signal);
    const { stdout } = await terminal.ended;
    expect(stdout).toMatch(/CODE=0/);
    expectGivenBack(stdout);
  });

  test('a crash gives the terminal back, and then tells the error', async () => {
    const crash = 'data:text/javascript,setTimeout(()=>{throw(Error("boom"))},3000)';
    const { terminal } = await openTop({ rows: 20, columns: 90, env: { NODE_OPTIONS: `--import=${crash}` } });
    const { stdout } = await terminal.ended;
    expectGivenBack(stdout);
    expect(stdout.slice(stdout.lastIndexOf('\x1b[?1049l'))).toContain('boom');
    expect(stdout).not.toMatch(/CODE=0/);
  });

  test('an agent that goes away is told, the last figures stay; when it is back the figures go on', async () => {
    const { terminal, server } = await openTop({ rows: 20, columns: 120 });
    const { port } = server.address() as AddressInfo;
    server.close();
    await terminal.until('stdout', /! cannot read \S+: nothing listens there/);
    const again = spawn(process.execPath, [
      '-e',
      `require('http').createServer((q, r) => r.end('knp_build_info 1\\n')).listen(${port}, '127.0.0.1')`,
    ]);
    try {
      await terminal.until('stdout', / 0 edges by bytes/);
    } finally {
      again.kill();
    }
    terminal.child.stdin?.write('q');
    expectGivenBack((await terminal.ended).stdout);
  });
});
