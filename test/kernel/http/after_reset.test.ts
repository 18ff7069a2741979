// A process may read what arrived although the connection has been reset meanwhile: the request counts, with how it ended,
// and its edge is let go of. With the TCP probe and without.
import net from 'node:net';
import { afterEach, expect, test } from 'vitest';
import type { RunningCore } from '../../../exporter/probes/core.ts';
import { endAll, listen, Probe } from './harness.ts';

afterEach(endAll);

const sleep = (millis: number) => new Promise((resolve) => setTimeout(resolve, millis));

const REQUESTS = 20;
const BY = ['http_request_method', 'http_response_status_code', 'error_type'] as const;

/** Sockets that hold edges of this port. */
function heldEdges({ loaded, table }: RunningCore, port: number): number {
  const { count, values, stride } = table.read();
  const key = table.layout.offset('key');
  const [local, remote] = ['local_port', 'remote_port'].map((name) =>
    loaded.btf.layout('edge_key').offset(name),
  );
  const sockets = table.layout.offset('sockets');
  let held = 0;
  for (let at = 0; at < count * stride; at += stride)
    if ([local, remote].some((field = 0) => values.readUInt16LE(at + key + field) === port))
      held += Number(values.readBigInt64LE(at + sockets));
  return held;
}

test.each([true, false])(
  'requests read after their connection was reset are counted, and hold no edge; TCP probe on: %s',
  async (tcp) => {
    const probe = new Probe({ tcp });
    const accepted: net.Socket[] = [];
    let read = 0;
    const server = net.createServer({ pauseOnConnect: true }, (socket) => {
      accepted.push(socket);
      socket.on('error', () => {}).on('data', () => read++);
    });
    try {
      const port = await listen(server);
      for (let i = 0; i < REQUESTS; i++) {
        const client = net.connect(port, '127.0.0.1');
        await new Promise<void>((sent) =>
          client.write('GET /late HTTP/1.1\r\nHost: x\r\n\r\n', () => sent()),
        );
        client.resetAndDestroy();
      }
      while (accepted.length < REQUESTS) await sleep(5);
      await sleep(50);
      const ends = accepted.map((socket) => new Promise((closed) => socket.once('close', closed)));
      for (const socket of accepted) socket.resume();
      await Promise.all(ends);
      expect(read).toBe(REQUESTS);
      const labels = { server_port: port };
      expect(await probe.table('server', labels, BY)).toEqual({ 'GET - connection_reset': REQUESTS });
      expect(await probe.table('client', labels, BY)).toEqual({ 'GET - connection_closed': REQUESTS }); // by its own hand
      server.close();
      await sleep(50);
      expect(heldEdges(probe.core, port)).toBe(0);
    } finally {
      for (const socket of accepted) socket.destroy();
      server.close();
      probe.close();
    }
  },
);
