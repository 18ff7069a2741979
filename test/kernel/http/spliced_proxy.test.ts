// A proxy that lets the kernel copy (splice), as Go's io.Copy between two connections and so docker-proxy does: what passes is
// seen at the client and at the server, and each request is a counted loss at either end of the proxy.
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { endAll, freePort, METHOD_STATUS, Probe, start } from './harness.ts';

const REQUESTS = 20;

/** Copies both ways between what it accepts and a server, by splice() only. */
const PROXY = `
import os, socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
print("ready", flush=True)
def copy(source, target):
    inlet, outlet = os.pipe()[::-1]
    while True:
        size = os.splice(source.fileno(), inlet, 65536)
        if not size:
            break
        while size:
            size -= os.splice(outlet, target.fileno(), size)
    target.shutdown(socket.SHUT_WR)
while True:
    near, _ = listener.accept()
    far = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
    for ends in ((near, far), (far, near)):
        threading.Thread(target=copy, args=ends, daemon=True).start()
`;

const SERVER = `
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=64)
print("ready", flush=True)
def serve(s):
    while s.recv(4096):
        s.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    s.close()
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
`;

const CLIENT = `
import socket, sys
connections, each = int(sys.argv[2]), int(sys.argv[3])
for _ in range(connections):
    s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
    for _ in range(each):
        s.sendall(b"GET /spliced HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n")
        s.recv(4096)
    s.shutdown(socket.SHUT_WR)
    assert not s.recv(1)
    s.close()
print("done", flush=True)
sys.stdin.read()
`;

let probe: Probe;
beforeAll(() => {
  probe = new Probe();
});
afterEach(endAll);
afterAll(() => probe?.close());

test.each([
  ['one connection', 1, REQUESTS],
  ['a connection each', REQUESTS, 1],
])(
  '%s: each request counts at the client and the server, and is one loss at either end of the proxy',
  async (_, connections, each) => {
    const [front, back] = [await freePort(), await freePort()];
    await start('python3', ['-c', SERVER, String(back)], /ready/);
    await start('python3', ['-c', PROXY, String(front), String(back)], /ready/);
    const before = await probe.lost();
    await start('python3', ['-c', CLIENT, String(front), String(connections), String(each)], /done/);
    const answered = { 'GET 200': REQUESTS };
    expect(await probe.table('client', { server_port: front }, METHOD_STATUS)).toEqual(answered);
    expect(await probe.table('server', { server_port: back }, METHOD_STATUS)).toEqual(answered);
    expect(await probe.table('server', { server_port: front }, METHOD_STATUS)).toEqual({});
    expect(await probe.table('client', { server_port: back }, METHOD_STATUS)).toEqual({});
    const after = await probe.lost();
    expect((after.lost_unseen ?? 0) - (before.lost_unseen ?? 0)).toBe(2 * REQUESTS);
  },
);
