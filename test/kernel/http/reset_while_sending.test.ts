// A reset that arrives inside of a call that sends closes the socket before the call is over. What the call has handed to
// the kernel counts all the same: the server's answer has its status, the client's request was asked.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { endAll, freePort, METHOD_STATUS, missingFor, Nginx, PROVIDERS, Probe, run } from './harness.ts';

const TIMES = 100;
const BY = [...METHOD_STATUS, 'error_type'] as const;

let probe: Probe | undefined;
beforeEach(() => {
  probe = undefined;
});
afterEach(async () => {
  probe?.close();
  await endAll();
});

/** Asks and hangs up, so that the answer meets a closed port. */
const HANGS_UP = `
import socket, sys
for i in range(int(sys.argv[2])):
    c = socket.create_connection(('127.0.0.1', int(sys.argv[1])))
    c.sendall(b'GET /a HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n')
    c.close()
`;

test.for(PROVIDERS)(
  'an answer to a client that has hung up counts with its status: %s',
  async (provider, context) => {
    const missing = missingFor(provider);
    if (missing !== undefined) context.skip(missing);
    const nginx = await Nginx.start('location / { return 200 "hello"; }');
    probe = new Probe({ http: { provider } });
    await run('python3', ['-c', HANGS_UP, `${nginx.port}`, `${TIMES}`]);
    await nginx.stop();
    const log = nginx.log();
    nginx.remove();
    expect(log.map((line) => line.status)).toEqual(Array<number>(TIMES).fill(200));
    const labels = { server_port: nginx.port };
    expect(await probe.table('server', labels, BY)).toEqual({ 'GET 200 -': TIMES });
    expect(await probe.table('client', labels, BY)).toEqual({ 'GET - connection_closed': TIMES });
  },
);

/** Asks once more on a connection that the server has closed, as a pool of connections may, then on a new one. */
const ASKS_TOO_LATE = `
import select, socket, sys, threading
port, times = map(int, sys.argv[1:])
GET = b'GET /k HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n'
listener = socket.create_server(('127.0.0.1', port))
def serve():
    for i in range(2 * times):
        c, _ = listener.accept()
        assert c.recv(4096) == GET
        c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok')
        c.close()
server = threading.Thread(target=serve)
server.start()
def ask():
    c = socket.create_connection(('127.0.0.1', port))
    c.sendall(GET)
    assert b'200' in c.recv(4096)
    return c
for i in range(times):
    c = ask()
    select.select([c], [], []) # the server has closed it
    c.sendall(GET)
    try: assert c.recv(4096) == b''
    except OSError: pass
    c.close()
    ask().close()
server.join()
`;

test.for(PROVIDERS)(
  'a request on a connection that the server has closed counts as closed: %s',
  async (provider, context) => {
    const missing = missingFor(provider);
    if (missing !== undefined) context.skip(missing);
    const port = await freePort();
    probe = new Probe({ http: { provider } });
    await run('python3', ['-c', ASKS_TOO_LATE, `${port}`, `${TIMES}`]);
    const labels = { server_port: port };
    expect(await probe.table('client', labels, BY)).toEqual({
      'GET - connection_closed': TIMES,
      'GET 200 -': 2 * TIMES,
    });
    expect(await probe.table('server', labels, BY)).toEqual({ 'GET 200 -': 2 * TIMES });
    expect(
      probe.points('http.client.active_requests', labels).reduce((sum, point) => sum + point.value, 0),
    ).toBe(0);
  },
);
