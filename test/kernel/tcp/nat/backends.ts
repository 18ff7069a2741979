// A server with several addresses in one process, which counts by the address that was reached: the truth of the NAT
// tests. Speaks tcp_peer's requests. Prints a line when it listens and, for every line on its standard input, its counts.
import { createServer, type Socket } from 'node:net';
import { createInterface } from 'node:readline';

const [port, ...addresses] = process.argv.slice(2) as [string, ...string[]];
const counts: Record<string, { connections: number; received: number; sent: number }> = {};

/** UP, DOWN (64 bits, host order), who closes; UP counts these 17 bytes too. */
const HEADER = 17;

function serve(socket: Socket, address: string): void {
  counts[address] ??= { connections: 0, received: 0, sent: 0 };
  const count = counts[address];
  count.connections++;
  let pending = Buffer.alloc(0);
  socket.on('data', (data) => {
    count.received += data.length;
    pending = Buffer.concat([pending, data]);
    for (;;) {
      if (pending.length < HEADER) return;
      const up = Number(pending.readBigUInt64LE(0));
      if (pending.length < up) return;
      const down = Number(pending.readBigUInt64LE(8));
      const closes = String.fromCharCode(pending[16] as number);
      pending = pending.subarray(up);
      count.sent += down;
      socket.write(Buffer.alloc(down));
      if (closes === 's') socket.end();
    }
  });
  socket.on('end', () => socket.end());
  socket.on('error', () => socket.destroy());
}

await Promise.all(
  addresses.map(
    (address) =>
      new Promise<void>((resolve) => {
        createServer({ allowHalfOpen: true }, (socket) => serve(socket, address)).listen(
          { host: address, port: Number(port), backlog: 1024 },
          resolve,
        );
      }),
  ),
);
console.log('ready');
for await (const _ of createInterface({ input: process.stdin })) console.log(JSON.stringify(counts));
process.exit();
