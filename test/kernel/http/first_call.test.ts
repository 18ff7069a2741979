// The first call of a connection decides what it speaks: however it lays out its bytes, and whichever thread is first.
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { scaled } from '../../guests/scale.ts';
import { endAll, freePort, Probe, run } from './harness.ts';

let probe: Probe;
beforeAll(() => {
  probe = new Probe();
});
afterEach(endAll);
afterAll(() => probe?.close());

/** A server and clients in one process. Modes: `empty` puts empty pieces in front; `threads` reads in one thread and sends
 * in another, at both ends, so that both directions of a connection begin at once. */
const PEERS = `
import os, socket, sys, threading
mode, port, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
REQUEST = b"GET /first HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n"
ANSWER = b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok"

def read(s, size):
    got = b""
    while len(got) < size:
        more = s.recv(size - len(got))
        if not more:
            return
        got += more

def send(s, data):
    if mode == "empty":
        assert os.writev(s.fileno(), [b"", b"", data]) == len(data)
    else:
        s.sendall(data)

def serve(s):
    for _ in range(2):
        read(s, len(REQUEST))
        send(s, ANSWER)
    s.recv(1)
    s.close()

listener = socket.create_server(("127.0.0.1", port), backlog=512)
def accept():
    for _ in range(count):
        s, _ = listener.accept()
        threading.Thread(target=serve, args=(s,)).start()
threading.Thread(target=accept).start()

def ask(s):
    for _ in range(2):
        if mode == "threads":
            reader = threading.Thread(target=read, args=(s, len(ANSWER)))
            reader.start()
            send(s, REQUEST)
            reader.join()
        else:
            send(s, REQUEST)
            read(s, len(ANSWER))
    s.close()

def clients(number):
    for _ in range(number):
        s = socket.create_connection(("127.0.0.1", port))
        ask(s)
workers = [threading.Thread(target=clients, args=(count // 4,)) for _ in range(4)]
for worker in workers: worker.start()
for worker in workers: worker.join()
`;

const BY = ['http_request_method', 'http_response_status_code', 'error_type'] as const;

test.each([
  ['empty', 'a first call with empty pieces in front is followed'],
  ['threads', 'a connection whose ends read in one thread and send in another loses nothing'],
])('%s: %s', async (mode) => {
  const port = await freePort();
  const connections = scaled(2000, 80);
  await run('python3', ['-c', PEERS, mode, String(port), String(connections)]);
  const labels = { server_port: port };
  const expected = { 'GET 200 -': 2 * connections };
  expect(await probe.table('server', labels, BY)).toEqual(expected);
  expect(await probe.table('client', labels, BY)).toEqual(expected);
});
