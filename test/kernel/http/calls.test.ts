// Every system call that moves bytes over a socket is seen, at both ends: a Python client makes its requests with one,
// a Python server reads and answers with another.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, expect, it } from 'vitest';
import { endAll, freePort, METHOD_STATUS_ROUTE, Probe, run, start } from './harness.ts';

/** One script for both ends: `calls.py serve|ask PORT SEND RECEIVE COUNT`. */
const SCRIPT = `
import ctypes, os, socket, sys, tempfile
role, port, send, receive, count = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])
libc = ctypes.CDLL(None, use_errno=True)
class iovec(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('len', ctypes.c_size_t)]
class msghdr(ctypes.Structure): _fields_ = [('name', ctypes.c_void_p), ('namelen', ctypes.c_uint32), ('iov', ctypes.POINTER(iovec)), ('iovlen', ctypes.c_size_t), ('control', ctypes.c_void_p), ('controllen', ctypes.c_size_t), ('flags', ctypes.c_int)]
class mmsghdr(ctypes.Structure): _fields_ = [('hdr', msghdr), ('len', ctypes.c_uint)]
def cuts(data): # in the middle of the first line, and elsewhere
    return [data[:2], data[2:5], b'', data[5:11], data[11:]]
def mmsg(buffers):
    keep = [ctypes.create_string_buffer(b, len(b)) for b in buffers]
    iov = (iovec * len(keep))(*[iovec(ctypes.cast(k, ctypes.c_void_p), len(k)) for k in keep])
    msgs = (mmsghdr * len(keep))()
    for i in range(len(keep)):
        msgs[i].hdr.iov = ctypes.pointer(iov[i]); msgs[i].hdr.iovlen = 1
    return keep, iov, msgs
def put(s, data):
    f = s.fileno()
    if send == 'write': os.write(f, data)
    elif send == 'writev': os.writev(f, cuts(data))
    elif send == 'sendto': s.send(data)
    elif send == 'sendmsg': s.sendmsg(cuts(data))
    elif send == 'sendmmsg':
        parts = [c for c in cuts(data) if c]
        keep, iov, msgs = mmsg(parts)
        assert libc.sendmmsg(f, msgs, len(parts), 0) == len(parts)
    elif send in ('sendfile', 'splice'): # the headers by write, the body out of a file
        head, body = data.split(b'\\r\\n\\r\\n', 1)
        os.write(f, head + b'\\r\\n\\r\\n')
        with tempfile.TemporaryFile() as t:
            t.write(body); t.flush()
            if send == 'sendfile':
                at = 0
                while at < len(body): at += os.sendfile(f, t.fileno(), at, len(body) - at)
            else:
                r, w = os.pipe(); at = 0
                while at < len(body):
                    n = os.splice(t.fileno(), w, len(body) - at, offset_src=at)
                    left = n
                    while left: left -= os.splice(r, f, left)
                    at += n
                os.close(r); os.close(w)
def get(s, n):
    f = s.fileno()
    if receive == 'read': return os.read(f, n)
    if receive == 'readv':
        bs = [bytearray(3), bytearray(1), bytearray(n)]
        got = os.readv(f, bs); return b''.join(bs)[:got]
    if receive == 'recvfrom': return s.recv(n)
    if receive == 'peek': s.recv(n, socket.MSG_PEEK); return s.recv(n)
    if receive == 'recvmsg':
        bs = [bytearray(4), bytearray(n)]
        got = s.recvmsg_into(bs)[0]; return b''.join(bs)[:got]
    if receive == 'recvmmsg':
        keep, iov, msgs = mmsg([b'\\0' * 7, b'\\0' * 9, b'\\0' * n])
        got = libc.recvmmsg(f, msgs, 3, 0x10000, None) # MSG_WAITFORONE
        assert got > 0
        return b''.join(keep[i].raw[:msgs[i].len] for i in range(got))
def message(s, rest):
    while b'\\r\\n\\r\\n' not in rest:
        more = get(s, 4096)
        if not more: return None, b''
        rest += more
    head, rest = rest.split(b'\\r\\n\\r\\n', 1)
    length = int(head.lower().split(b'content-length:')[1].split(b'\\r\\n')[0])
    while len(rest) < length: rest += get(s, 4096)
    return head, rest[length:]
body = b'GET /trap HTTP/1.1\\r\\n\\r\\n' * 400
if role == 'serve':
    l = socket.create_server(('127.0.0.1', port)); print('ready', flush=True)
    while True:
        s, _ = l.accept(); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); rest = b''
        while True:
            head, rest = message(s, rest)
            if head is None: break
            put(s, b'HTTP/1.1 200 OK\\r\\nServer: calls\\r\\nContent-Length: %d\\r\\n\\r\\n' % len(body) + body)
        s.close()
else:
    s = socket.create_connection(('127.0.0.1', port)); s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1); rest = b''
    for i in range(count):
        put(s, b'POST /%s/%s HTTP/1.1\\r\\nHost: a\\r\\nContent-Length: %d\\r\\n\\r\\n' % (send.encode(), receive.encode(), len(body)) + body)
        head, rest = message(s, rest); assert b' 200 ' in head
    s.close()
`;
const BODY = 400 * 'GET /trap HTTP/1.1\r\n\r\n'.length;
const COUNT = 30;

const SENDS = ['write', 'writev', 'sendto', 'sendmsg', 'sendmmsg', 'sendfile', 'splice'];
const RECEIVES = ['read', 'readv', 'recvfrom', 'recvmsg', 'recvmmsg', 'peek'];
const PAIRS = SENDS.map((send, i) => [send, RECEIVES[i % RECEIVES.length] as string] as const);

let probe: Probe;
let directory: string;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'knp-http-calls-'));
  writeFileSync(join(directory, 'calls.py'), SCRIPT);
  probe = new Probe();
});
afterEach(endAll);
afterAll(() => {
  probe?.close();
  rmSync(directory, { recursive: true, force: true });
});

it.each(PAIRS)('%s and %s', async (send, receive) => {
  const port = await freePort();
  const script = join(directory, 'calls.py');
  await start('python3', [script, 'serve', String(port), send, receive, '0'], /ready/);
  await run('python3', [script, 'ask', String(port), send, receive, String(COUNT)]);
  const labels = { server_port: port };
  const expected = { [`POST 200 /${send}/${receive}`]: COUNT };
  expect(await probe.table('client', labels, METHOD_STATUS_ROUTE)).toEqual(expected);
  expect(await probe.table('server', labels, METHOD_STATUS_ROUTE)).toEqual(expected);
  for (const side of ['client', 'server'] as const)
    for (const what of ['request', 'response'] as const) {
      const points = probe.points(`http.${side}.${what}.body.size`, labels);
      expect(
        points.reduce((total, point) => total + point.sum, 0),
        `${side} ${what}`,
      ).toBe(COUNT * BODY);
    }
});
