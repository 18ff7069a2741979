// Connections that wait in an accept queue when the agent starts: they are found when they are accepted, and until then the
// coverage says that something is missing.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { expect, test } from 'vitest';
import { Probe } from './harness.ts';

const PORT = 21140;

/** A server that has accepted 3 connections of 8; a line has the rest accepted, another moves 700 bytes over each. */
const SERVER = `
import ctypes, socket, sys
name = lambda text: ctypes.CDLL(None).prctl(15, text.encode(), 0, 0, 0)
name('knp-queue-s')
listener = socket.create_server(('127.0.0.1', ${PORT}), backlog=16)
clients = [socket.create_connection(('127.0.0.1', ${PORT})) for _ in range(8)]
accepted = [listener.accept()[0] for _ in range(3)]
print('ready', flush=True)
for line in sys.stdin:
    if line == 'accept\\n': accepted += [listener.accept()[0] for _ in range(5)]
    if line == 'move\\n':
        for client in clients: client.sendall(b'x' * 700)
        for server in accepted: server.recv(700, socket.MSG_WAITALL)
    if line == 'close\\n':
        for end in clients + accepted: end.close()
    print('done', flush=True)
`;

test('a connection in an accept queue at the start is found when it is accepted', async () => {
  const child = spawn('python3', ['-c', SERVER], { stdio: ['pipe', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const order = async (what: string) => {
    child.stdin.write(`${what}\n`);
    expect((await lines.next()).value).toBe('done');
  };
  expect((await lines.next()).value).toBe('ready');
  const probe = new Probe();
  try {
    const server = { reporter: 'server', server_workload: 'knp-queue-s', server_port: PORT };
    const missing = () => {
      const { connections, named } = probe.core.coverage();
      return connections - named;
    };
    expect(probe.sum('knp.tcp.connections', server)).toBe(3);
    const before = missing();
    await order('accept');
    probe.collect();
    expect(probe.sum('knp.tcp.connections', server)).toBe(8);
    expect(before - missing()).toBe(5);
    expect(probe.sum('knp.tcp.connections_opened', server)).toBe(0);
    await order('move');
    probe.collect();
    expect(probe.sum('knp.tcp.received_bytes', server)).toBe(8 * 700);
    await order('close');
    probe.collect();
    expect(probe.sum('knp.tcp.connections', server)).toBe(0);
  } finally {
    probe.close();
    child.stdin.end();
  }
});
