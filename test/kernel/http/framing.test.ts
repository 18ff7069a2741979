// Bodies in many small pieces, bodies of which the process does not see every byte, and methods that nobody knows: each
// request is counted once at both ends, and none is reported lost. For every provider that the kernel offers.
import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { freePort, METHOD_STATUS, missingFor, PROVIDERS, Probe } from './harness.ts';

/** What both ends do on one connection, given the port; the server's part first. */
const PEERS = {
  // The client waits until the whole answer is there, then takes it by one call.
  'ten thousand chunks of 45 bytes, sent and read by one call each': `
chunk = b'2d\\r\\n' + b'x' * 45 + b'\\r\\n'
answer = b'HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n' + chunk * 10000 + b'0\\r\\n\\r\\n'
def serve(c):
    while head(c): c.sendall(answer)
def ask(c):
    c.sendall(GET)
    while available(c) < len(answer): time.sleep(0.001)
    assert len(c.recv(1 << 20)) == len(answer)
`,
  'three hundred chunks in nine hundred pieces of memory, by one call': `
pieces = [b'HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n'] + [b'2d\\r\\n', b'x' * 45, b'\\r\\n'] * 300 + [b'0\\r\\n\\r\\n']
def serve(c):
    while head(c): assert c.sendmsg(pieces) == sum(map(len, pieces))
def ask(c):
    c.sendall(GET)
    buffers = [bytearray(len(piece)) for piece in pieces]
    assert c.recvmsg_into(buffers, 0, socket.MSG_WAITALL)[0] == sum(map(len, pieces))
    assert buffers == pieces
`,
  'the middle of a body spliced, of the request and of the answer': `
body = b'Content-Length: 100000\\r\\n\\r\\n' + b'x' * 100000
def serve(c):
    while head(c):
        rest(c)
        c.sendall(b'HTTP/1.1 200 OK\\r\\n' + body)
def ask(c):
    c.sendall(b'POST /a HTTP/1.1\\r\\n' + body)
    assert head(c)
    rest(c)
def rest(c):
    left = 100000
    left -= len(c.recv(1000))
    while left > 5000:
        n = os.splice(c.fileno(), w, min(left - 5000, 32768))
        left -= n
        while n: n -= os.splice(r, null, n)
    while left: left -= len(c.recv(left))
`,
  'a chunk spliced, of the request and of the answer': `
body = b'Transfer-Encoding: chunked\\r\\n\\r\\nc350\\r\\n' + b'x' * 50000 + b'\\r\\n0\\r\\n\\r\\n'
def serve(c):
    while head(c):
        rest(c)
        c.sendall(b'HTTP/1.1 200 OK\\r\\n' + body)
def ask(c):
    c.sendall(b'POST /a HTTP/1.1\\r\\n' + body)
    assert head(c)
    rest(c)
def rest(c):
    left = 50000 + 7
    while left > 100:
        n = os.splice(c.fileno(), w, min(left - 100, 32768))
        left -= n
        while n: n -= os.splice(r, null, n)
    while left: left -= len(c.recv(left))
`,
} as const;

const COMMON = `
import fcntl, os, socket, struct, sys, termios, threading, time
GET = b'GET /a HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'
r, w = os.pipe()
null = os.open('/dev/null', os.O_WRONLY)
def head(c):
    q = b''
    while not q.endswith(b'\\r\\n\\r\\n'):
        d = c.recv(1)
        if not d: return None
        q += d
    if b'chunked' in q: c.recv(6)
    return q
def available(c): return struct.unpack('i', fcntl.ioctl(c.fileno(), termios.FIONREAD, b'0000'))[0]
`;

const RUN = `
port, keep = int(sys.argv[1]), sys.argv[2] == 'keep'
l = socket.socket()
l.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)
l.bind(('127.0.0.1', port))
l.listen(8)
def accept():
    for _ in range(1 if keep else 5):
        c, _ = l.accept()
        serve(c)
        c.close()
t = threading.Thread(target=accept)
t.start()
c = None
for i in range(5):
    if c is None or not keep:
        if c: c.close()
        c = socket.socket()
        c.setsockopt(socket.SOL_SOCKET, 33, 4 << 20)
        c.connect(('127.0.0.1', port))
    ask(c)
c.close()
t.join()
`;

const METHODS = [
  'RPC_IN_DATA',
  'BITS_POST',
  'CCM_POST',
  'X',
  'M-SEARCH',
  'PROPFIND',
  'get',
  "!#$%&'*+-.^_`|~09",
];

describe.each(PROVIDERS)('%s', (provider) => {
  const missing = missingFor(provider);
  let probe: Probe;
  beforeAll(() => {
    if (missing === undefined) probe = new Probe({ http: { provider } });
  });
  afterAll(() => probe?.close());

  /** Drives `script`, and expects these requests at both ends and no loss. */
  async function counts(script: string, keep: boolean, expected: Record<string, number>): Promise<void> {
    const port = await freePort();
    const before = await probe.lost();
    execFileSync('python3', ['-c', COMMON + script + RUN, `${port}`, keep ? 'keep' : 'anew'], {
      timeout: 120_000,
    });
    expect({
      server: await probe.table('server', { server_port: port }, METHOD_STATUS),
      client: await probe.table('client', { server_port: port }, METHOD_STATUS),
      lost: await probe.lost(),
    }).toEqual({ server: expected, client: expected, lost: before });
  }

  describe.each([true, false])('one connection: %s', (keep) => {
    it.for(Object.keys(PEERS) as (keyof typeof PEERS)[])('%s', async (name, context) => {
      if (missing !== undefined) context.skip(`no ${provider} provider: ${missing}`);
      const script = PEERS[name];
      await counts(script, keep, { [script.includes('POST') ? 'POST 200' : 'GET 200']: 5 });
    });
  });

  it('methods that are none of the usual, whole and in two calls', async (context) => {
    if (missing !== undefined) context.skip(`no ${provider} provider: ${missing}`);
    const script = `
methods = ${JSON.stringify(METHODS)}
def serve(c):
    while head(c): c.sendall(b'HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok')
def ask(c):
    for method in methods:
        request = f'{method} /a HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n'.encode()
        for cut in (len(request), 1, len(method), len(method) + 2):
            c.sendall(request[:cut])
            if cut < len(request): c.sendall(request[cut:])
            while not c.recv(4096).endswith(b'ok'): pass
`;
    await counts(script, true, { '_OTHER 200': 5 * 4 * METHODS.length });
    for (const method of METHODS) {
      const one = script.replace(JSON.stringify(METHODS), JSON.stringify([method]));
      await counts(one, false, { '_OTHER 200': 5 * 4 });
    }
  });
});
