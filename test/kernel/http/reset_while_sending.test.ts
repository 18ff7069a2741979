// A reset that arrives inside of a call that sends closes the socket before the call is over. What the call has handed to
// the kernel counts all the same: an answer has its status.
import { afterEach, beforeEach, expect, test } from 'vitest';
import { endAll, METHOD_STATUS, missingFor, Nginx, PROVIDERS, Probe, run } from './harness.ts';

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
