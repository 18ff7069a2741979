// HTTP over MPTCP, which every server in Go listens with since Go 1.24: seen as over TCP, at both ends, with each provider
// and each system call that moves bytes.
import { afterAll, afterEach, beforeAll, describe, expect, it, type TestContext } from 'vitest';
import { KernelFeatures } from '../../../exporter/kernel/features.ts';
import { buildPeer, peerPath } from '../peers/build.ts';
import { endAll, freePort, METHOD_STATUS_ROUTE, missingFor, PROVIDERS, Probe, start } from './harness.ts';

const PEER = peerPath('http_peer');
const COUNT = 30;

const features = new KernelFeatures();
/** Before that the kernel says too little of MPTCP: docs/kernel-support.md. */
const unseen = features.missing('kernel:6.5');

const CALLS = [
  ['write', 'read'],
  ['writev', 'readv'],
  ['sendto', 'recvfrom'],
  ['sendmsg', 'recvmsg'],
  ['sendmmsg', 'recvmmsg'],
  ['sendfile', 'peek'],
  ['splice', 'read'],
] as const;

const ENDS = [
  ['MPTCP', 'MPTCP'],
  ['MPTCP', 'TCP'],
  ['TCP', 'MPTCP'],
] as const;

/** A client over MPTCP that is told how each of its connections is to end. */
const ENDINGS = `
import socket, sys
port = int(sys.argv[1])
for path in ("/close", "/reset", "/leave", "/ok"):
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    s.connect(("127.0.0.1", port))
    s.sendall(f"GET {path} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n".encode())
    if path != "/leave":
        try:
            while s.recv(100): pass
        except ConnectionResetError:
            pass
    s.close()
`;

beforeAll(() => buildPeer('http_peer'));
afterEach(endAll);

describe.each(PROVIDERS)('%s', (provider) => {
  let probe: Probe;
  const missing = unseen ?? missingFor(provider);

  beforeAll(() => {
    if (missing === undefined) probe = new Probe({ http: { provider } });
  });
  afterAll(() => probe?.close());

  const test = (name: string, body: (context: TestContext) => Promise<void>): void => {
    it(name, async (context) => {
      if (missing !== undefined) context.skip(`no ${provider} provider: ${missing}`);
      await body(context);
    });
  };

  const peer = (protocol: string, args: string[], until: RegExp) =>
    protocol === 'MPTCP' ? start('env', ['MPTCP=1', PEER, ...args], until) : start(PEER, args, until);

  for (const [serves, asks] of ENDS)
    test(`a server of ${serves}, a client of ${asks}: every request counts at both ends`, async () => {
      const before = await probe.lost();
      const ports = [];
      for (const [send, receive] of CALLS) {
        const port = await freePort();
        await peer(serves, ['serve', String(port), send, receive], /ready/);
        const client = await peer(asks, ['ask', String(port), send, receive, String(COUNT)], /done/);
        const closed = new Promise((resolve) => client.once('close', resolve));
        client.stdin?.end();
        expect(await closed).toBe(0);
        ports.push({ port, expected: { [`POST 200 /${send}/${receive}`]: COUNT } });
      }
      for (const { port, expected } of ports) {
        const labels = { server_port: port };
        expect.soft(await probe.table('client', labels, METHOD_STATUS_ROUTE)).toEqual(expected);
        expect.soft(await probe.table('server', labels, METHOD_STATUS_ROUTE)).toEqual(expected);
      }
      expect(await probe.lost()).toEqual(before);
    });

  test('requests without an answer end with their connection, and say how', async () => {
    const port = await freePort();
    const by = ['http_request_method', 'http_response_status_code', 'error_type', 'http_route'] as const;
    const server = `
import socket
listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", ${port}))
listener.listen(8)
print("ready", flush=True)
for _ in range(4):
    s, _ = listener.accept()
    path = s.recv(100).split()[1]
    if path == b"/ok":
        s.sendall(b"HTTP/1.1 204 No Content\\r\\n\\r\\n")
    if path == b"/reset":
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")
    if path == b"/leave":
        s.recv(1)
    s.close()
print("done", flush=True)
`;
    const serving = await start('python3', ['-c', server], /ready/);
    await start('python3', ['-c', `${ENDINGS}\nprint("done")`, String(port)], /done/);
    await new Promise((resolve) => (serving.exitCode === null ? serving.once('close', resolve) : resolve(0)));

    const labels = { server_port: port };
    expect(await probe.table('client', labels, by)).toEqual({
      'GET 204 - /ok': 1,
      'GET - connection_closed /close': 1,
      'GET - connection_closed /leave': 1,
      'GET - connection_reset /reset': 1,
    });
    expect(await probe.table('server', labels, by)).toEqual({
      'GET 204 - /ok': 1,
      'GET - connection_closed /close': 1,
      'GET - connection_closed /leave': 1,
      'GET - connection_closed /reset': 1,
    });
  });
});
