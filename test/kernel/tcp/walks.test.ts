// Every socket is met by a walk, once, whoever holds it: several processes, or nobody yet.
import { type ChildProcessWithoutNullStreams, execFileSync, spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, expect, test } from 'vitest';
import { Probe } from './harness.ts';

/** Both ends of a connection under names of their own; does what it is told line by line, and says when it is done. */
const PEERS = `
import ctypes, os, signal, socket, sys
libc = ctypes.CDLL(None)
port = int(sys.argv[1])
name = lambda text: libc.prctl(15, text.encode(), 0, 0, 0)
go, told = os.pipe()
here, there = os.pipe()
name('knp-walk-s')
server = socket.create_server(('127.0.0.1', port))
if os.fork() == 0:
    # the server: each byte of the pipe is an order
    os.close(told)
    conn = None
    while order := os.read(go, 1):
        if order == b'a': conn = server.accept()[0]
        if order == b'r': conn.recv(700, socket.MSG_WAITALL)
        if order == b'f': # two more processes hold the connection
            for _ in range(2):
                if os.fork() == 0: signal.pause()
        os.write(there, b'.')
    os._exit(0)
name('knp-walk-c')
server.close()
client = socket.socket()
def order(what): os.write(told, what); os.read(here, 1)
for line in sys.stdin:
    line = line.strip()
    if line == 'connect': client.connect(('127.0.0.1', port))
    if line == 'send': client.sendall(b'x' * 700)
    if line == 'accept': order(b'a')
    if line == 'read': order(b'r')
    if line == 'share': order(b'f')
    if line == 'close': client.close()
    print(line, flush=True)
`;

/**
 * A server that passes on what it accepts and lets go of it, so that the process that this script runs in closes it: as a
 * walker does that looks at a file while its process closes it.
 */
const CLOSED_BY_ANOTHER = `
import ctypes, os, signal, socket, sys
libc = ctypes.CDLL(None)
port = int(sys.argv[1])
name = lambda text: libc.prctl(15, text.encode(), 0, 0, 0)
mine, its = socket.socketpair()
server = None
ready, listening = os.pipe()
if os.fork() == 0:
    name('knp-walk-s')
    server = socket.create_server(('127.0.0.1', port))
    os.write(listening, b'.')
    while True:
        conn, _ = server.accept()
        socket.send_fds(its, [b'.'], [conn.fileno()])
        conn.close()
os.read(ready, 1)
name('knp-walk-c')
for line in sys.stdin:
    if line.strip() == 'exchange':
        client = os.fork()
        if client == 0:
            with socket.create_connection(('127.0.0.1', port)) as conn:
                conn.sendall(b'x' * 700)
                conn.shutdown(socket.SHUT_WR)
                conn.recv(1)
            os._exit(0)
        _, fds, _, _ = socket.recv_fds(mine, 1, 1)
        os.close(fds[0])
        os.waitpid(client, 0)
    print(line.strip(), flush=True)
`;

const running = new Set<ChildProcessWithoutNullStreams>();

afterEach(() => {
  for (const { pid } of running) process.kill(-(pid as number), 'SIGKILL');
  running.clear();
});

function startPeers(port: number): (...orders: string[]) => Promise<void> {
  return ordersTo(startScript(PEERS, port));
}

function startScript(script: string, port: number): ChildProcessWithoutNullStreams {
  // A process group of its own, so that all of it ends with the test.
  const child = spawn('python3', ['-c', script, String(port)], { detached: true });
  running.add(child);
  return child;
}

function ordersTo(child: ChildProcessWithoutNullStreams): (...orders: string[]) => Promise<void> {
  let errors = '';
  child.stderr.on('data', (text) => {
    errors += text;
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  return async (...orders) => {
    for (const order of orders) {
      child.stdin.write(`${order}\n`);
      const { value } = await lines.next();
      if (value !== order) throw new Error(`the peers ended at ${order}: ${errors}`);
    }
  };
}

const sockets = (state: string, filter: string) =>
  execFileSync('ss', ['-tanH', 'state', state, filter], { encoding: 'utf8' });

const pair = (reporter: string) => ({
  reporter,
  client_workload: 'knp-walk-c',
  server_workload: 'knp-walk-s',
});

test('a connection that several processes hold is met once by a walk', async () => {
  const probe = new Probe();
  try {
    const order = startPeers(21801);
    await order('connect', 'accept', 'share');
    for (let walk = 1; walk <= 5; walk++) {
      await order('send', 'read');
      probe.collect();
      expect(probe.sum('knp.tcp.received_bytes', pair('server'))).toBe(700 * walk);
      const [rtt] = probe.points('knp.tcp.rtt', pair('server'));
      expect(rtt?.value ?? 0).toBeLessThanOrEqual(walk); // the kernel may not know one after the handshake alone
      expect(probe.points('knp.tcp.rtt', pair('client'))[0]?.value).toBe(walk);
      expect(probe.sum('knp.tcp.connections', pair('server'))).toBe(1);
    }
    expect(probe.sum('knp.tcp.connections_opened', pair('server'))).toBe(1);
  } finally {
    probe.close();
  }
});

test('a connection that waits to be accepted is counted at the latest when it is', async () => {
  const probe = new Probe();
  try {
    const order = startPeers(21802);
    await order('connect', 'send');
    probe.collect();
    expect(probe.sum('knp.tcp.sent_bytes', pair('client'))).toBe(700);
    expect(probe.sum('knp.tcp.connections_opened', pair('client'))).toBe(1);
    await order('accept', 'read');
    probe.collect();
    expect(probe.sum('knp.tcp.received_bytes', pair('server'))).toBe(700);
    expect(probe.sum('knp.tcp.connections_opened', pair('server'))).toBe(1);
    expect(probe.sum('knp.tcp.connections', pair('server'))).toBe(1);
  } finally {
    probe.close();
  }
});

test('a connection that is closed before anybody accepts it counts like any other', async () => {
  const probe = new Probe();
  try {
    const order = startPeers(21803);
    await order('connect', 'send', 'close');
    // Its end is acknowledged late; until then the socket is nobody's.
    while (sockets('fin-wait-1', 'dport = :21803').length > 0) await sleep(5);
    probe.collect();
    expect(probe.sum('knp.tcp.sent_bytes', pair('client'))).toBe(700);
    await order('accept', 'read');
    probe.collect();
    expect(probe.sum('knp.tcp.received_bytes', pair('server'))).toBe(700);
    expect(probe.sum('knp.tcp.connections_opened', pair('server'))).toBe(1);
  } finally {
    probe.close();
  }
});

test.each([false, true])(
  'a connection that the walker closes, for it held the file, stays its server’s (include_self: %s)',
  async (includeSelf) => {
    const child = startScript(CLOSED_BY_ANOTHER, 21804);
    const probe = new Probe({ self: child.pid as number, includeSelf });
    try {
      const order = ordersTo(child);
      for (let i = 0; i < 3; i++) {
        await order('exchange');
        probe.collect();
      }
      const port = { reporter: 'server', server_port: '21804' };
      const opened = (labels: object) => probe.sum('knp.tcp.connections_opened', { ...port, ...labels });
      expect([opened({ server_workload: 'knp-walk-s' }), opened({})]).toEqual([3, 3]);
    } finally {
      probe.close();
    }
  },
);
