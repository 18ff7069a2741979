// Who an edge belongs to: processes that lived a millisecond, servers that others listen for, the agent itself.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { createConnection, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeAll, expect, test } from 'vitest';
import { buildPeer, endPeers, Probe, runClient, scaled, sh, startPeer } from './harness.ts';

beforeAll(buildPeer);
afterEach(endPeers);

test('a process that lived a millisecond keeps its name', async () => {
  const probe = new Probe();
  const directory = mkdtempSync(join(tmpdir(), 'knp-'));
  try {
    const program = join(directory, 'knp-brief');
    copyFileSync('/bin/bash', program);
    chmodSync(program, 0o755);
    const server = await startPeer(['serve', 'knp-brief-s', '127.0.0.1', 21301, 1]);
    for (let i = 0; i < 20; i++)
      await once(spawn(program, ['-c', 'exec 3<>/dev/tcp/127.0.0.1/21301'], { stdio: 'ignore' }), 'exit');
    await server.end();
    probe.collect();
    const labels = { client_workload: 'knp-brief', client_kind: 'Process', server_workload: 'knp-brief-s' };
    expect(probe.sum('knp.tcp.connections_opened', { ...labels, reporter: 'client' })).toBe(20);
    expect(probe.sum('knp.tcp.connections_opened', { ...labels, reporter: 'server' })).toBe(20);
  } finally {
    probe.close();
    rmSync(directory, { recursive: true });
  }
});

test('two programs of one cgroup stay two', async () => {
  const probe = new Probe();
  try {
    const server = await startPeer(['serve', 'knp-two-s', '127.0.0.1', 21302, 1]);
    await runClient(['knp-two-a', '127.0.0.1', 21302, 3, 100, 0, 'client', 1]);
    await runClient(['knp-two-b', '127.0.0.1', 21302, 5, 100, 0, 'client', 1]);
    await server.end();
    probe.collect();
    for (const reporter of ['client', 'server']) {
      expect(probe.sum('knp.tcp.connections_opened', { reporter, client_workload: 'knp-two-a' })).toBe(3);
      expect(probe.sum('knp.tcp.connections_opened', { reporter, client_workload: 'knp-two-b' })).toBe(5);
    }
  } finally {
    probe.close();
  }
});

test('a server that another process listens for is named by who serves', async () => {
  const probe = new Probe();
  try {
    const server = await startPeer(['pass', 'knp-activator', '127.0.0.1', 21303, 'knp-activated']);
    const client = await runClient(['knp-pass-c', '127.0.0.1', 21303, 50, 1000, 700, 'client', 2]);
    await server.end();
    probe.collect();
    const labels = { client_workload: 'knp-pass-c', server_workload: 'knp-activated' };
    expect(probe.sum('knp.tcp.received_bytes', { ...labels, reporter: 'server' })).toBe(client.sent);
    expect(probe.sum('knp.tcp.sent_bytes', { ...labels, reporter: 'client' })).toBe(client.sent);
    expect(probe.points('knp.tcp.sent_bytes', { server_workload: 'knp-activator' })).toHaveLength(0);
  } finally {
    probe.close();
  }
});

test('a long connection to such a server moves to who serves', async () => {
  const probe = new Probe();
  try {
    const server = await startPeer(['pass', 'knp-activator2', '127.0.0.1', 21304, 'knp-activated2']);
    const hold = await startPeer(['hold', 'knp-pass-h', '127.0.0.1', 21304, 3, 1000, 700]);
    await hold.exchange();
    probe.collect(); // sees the sockets for the first time
    probe.collect(); // nobody was seen reading them: looks among the descriptors
    probe.collect(60_000);
    await hold.exchange();
    probe.collect();
    const labels = { reporter: 'server', server_workload: 'knp-activated2', client_workload: 'knp-pass-h' };
    expect(probe.sum('knp.tcp.connections', labels)).toBe(3);
    expect(probe.sum('knp.tcp.connections', { reporter: 'server', server_workload: 'knp-activator2' })).toBe(
      0,
    );
    expect(probe.sum('knp.tcp.received_bytes', labels)).toBeGreaterThanOrEqual(3000);
    const all = ['knp-activator2', 'knp-activated2'].reduce(
      (n, server_workload) =>
        n + probe.sum('knp.tcp.received_bytes', { reporter: 'server', server_workload }),
      0,
    );
    expect(all).toBe((await hold.end()).sent);
    await server.end();
  } finally {
    probe.close();
  }
});

test('the agent’s own connections are left out, unless asked for', async () => {
  const exchange = async () => {
    const server = createServer((socket) => socket.end('hello')).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as { port: number };
    const socket = createConnection(port, '127.0.0.1').resume();
    await once(socket, 'close');
    server.close();
    await once(server, 'close');
    return port;
  };
  for (const includeSelf of [false, true]) {
    const probe = new Probe({ includeSelf });
    try {
      const port = await exchange();
      probe.collect();
      const counted = probe.sum('knp.tcp.sent_bytes', { reporter: 'server', server_port: port });
      expect(counted).toBe(includeSelf ? 5 : 0);
      expect(probe.points('knp.tcp.connections_opened', { server_port: port }).length > 0).toBe(includeSelf);
    } finally {
      probe.close();
    }
  }
});

test('a full edge table: sums stay exact, the rest folds into other, and a counter says so', async () => {
  const probe = new Probe({ limits: { edges: 64 } });
  try {
    const servers = 1000;
    const rounds = scaled(3);
    // one process that listens on 1,000 ports, one that dials each
    const text = sh(`exec python3 - <<'PY'
import ctypes, os, resource, select, socket, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
name = lambda n: ctypes.CDLL(None).prctl(15, n)
listeners = []
for port in range(22000, 22000 + ${servers}):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(("127.0.0.1", port)); s.listen(16); listeners.append(s)
if os.fork() == 0:
    name(b"knp-many-c")
    for l in listeners: l.close()
    sent = 0
    for _ in range(${rounds}):
        for port in range(22000, 22000 + ${servers}):
            c = socket.create_connection(("127.0.0.1", port)); c.sendall(bytes(100)); sent += 100
            while c.recv(1000): pass
            c.close()
    print(sent, flush=True)
    os._exit(0)
name(b"knp-many-s")
poll = select.epoll()
for l in listeners: poll.register(l, select.EPOLLIN)
by = {l.fileno(): l for l in listeners}
received = 0; left = ${servers} * ${rounds}
while left:
    for fd, _ in poll.poll():
        c, _ = by[fd].accept(); got = 0
        while got < 100: got += len(c.recv(100))
        received += got; c.sendall(b"ok"); c.close(); left -= 1
os.wait()
print(received)
PY`);
    expect(text).toBe(`${servers * rounds * 100}\n${servers * rounds * 100}\n`);
    probe.collect();
    const total = (labels: Record<string, string>) => probe.sum('knp.tcp.sent_bytes', labels);
    // Everybody's traffic is in the sums: other programs of this host may have made a few connections meanwhile.
    const mine = total({ reporter: 'client', client_workload: 'knp-many-c' });
    const folded = total({ reporter: 'client', client_workload: 'other' });
    expect(mine + folded).toBeGreaterThanOrEqual(servers * rounds * 100);
    const opened = (workload: string) =>
      probe.sum('knp.tcp.connections_opened', { reporter: 'client', client_workload: workload });
    expect(opened('knp-many-c') + opened('other')).toBeGreaterThanOrEqual(servers * rounds);
    expect(folded).toBeGreaterThan(0);
    expect(probe.lost().edge_table_full).toBeGreaterThan(1000);
    expect(probe.sum('knp.tcp.connections', { client_workload: 'knp-many-c' })).toBe(0);
  } finally {
    probe.close();
  }
});

test('programs that share a generic thread name in one cgroup are told apart by their executable', async () => {
  const probe = new Probe();
  const directory = mkdtempSync(join(tmpdir(), 'knp-'));
  try {
    const server = await startPeer(['serve', 'knp-generic-s', '127.0.0.1', 21305, 1]);
    for (const name of ['knp-gen-a', 'knp-gen-b']) {
      const program = join(directory, name);
      copyFileSync(process.execPath, program);
      const script =
        "const s=require('net').connect(21305,'127.0.0.1',()=>s.end());s.on('close',()=>process.exit())";
      const child = spawn(program, ['-e', script], { stdio: 'ignore' });
      await once(child, 'exit');
    }
    await server.end();
    probe.collect();
    for (const client_workload of ['knp-gen-a', 'knp-gen-b']) {
      expect(probe.sum('knp.tcp.connections_opened', { reporter: 'client', client_workload })).toBe(1);
    }
  } finally {
    probe.close();
    rmSync(directory, { recursive: true });
  }
});
