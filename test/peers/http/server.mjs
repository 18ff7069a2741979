// An HTTP server in Node.js as people write them. `node server.mjs PORT`; see servers.ts for what every peer answers.
// /sleep and /paced also say on standard output when they ended: CLOCK_MONOTONIC, nanoseconds.
import { createServer } from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';

/** Never shorter: timers may fire up to a millisecond early. */
async function rest(millis) {
  const until = process.hrtime.bigint() + BigInt(millis) * 1_000_000n;
  for (let left = BigInt(millis) * 1_000_000n; left > 0n; left = until - process.hrtime.bigint())
    await sleep(Math.ceil(Number(left) / 1e6));
}

const server = createServer(async (request, response) => {
  const url = new URL(request.url, 'http://peer');
  const millis = Number(url.searchParams.get('millis'));
  const [, first, name] = url.pathname.split('/');
  const timed = () =>
    response.once('finish', () => console.log(`ended ${first}/${name} ${process.hrtime.bigint()}`));
  switch (first) {
    case 'echo':
      response.writeHead(201);
      for await (const chunk of request) response.write(chunk);
      response.end();
      break;
    case 'large':
      response.end(Buffer.alloc(300_000, 'x'));
      break;
    case 'missing':
      response.writeHead(404).end('no\n');
      break;
    case 'broken':
      response.writeHead(503).end('no\n');
      break;
    case 'sleep':
      timed();
      await rest(millis);
      response.end('slept\n');
      break;
    case 'paced': // five pieces of 1,000 bytes, a pause between two
      timed();
      response.setHeader('content-length', 5000);
      for (let i = 0; i < 5; i++) {
        if (i > 0) await rest(millis);
        response.write(Buffer.alloc(1000, 'x'));
      }
      response.end();
      break;
    default:
      response.end('pong\n');
  }
});
server.keepAliveTimeout = 600_000;
server.listen(Number(process.argv[2]), '127.0.0.1', () => console.log('ready'));
