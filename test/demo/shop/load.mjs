// The shop's customers: ten requests a second, half of them on new connections, and a stream of logs to the sink.
//   node load.mjs WEB_PORT SINK_PORT
import { Agent, get } from 'node:http';
import { connect } from 'node:net';

process.title = 'shop-customers';
const [web, sink] = process.argv.slice(2).map(Number);
const kept = new Agent({ keepAlive: true, maxSockets: 4 });
const fresh = new Agent({ keepAlive: false });

let made = 0;
setInterval(() => {
  const agent = made++ % 2 === 0 ? kept : fresh;
  get({ host: '127.0.0.1', port: web, path: '/', agent, timeout: 10_000 }, (response) => response.resume())
    .on('timeout', function () {
      this.destroy();
    })
    .on('error', () => {});
}, 100);

// As much as the sink takes, but at most 2 MB/s.
const chunk = Buffer.alloc(200_000, 'log ');
function stream() {
  const socket = connect({ host: '127.0.0.1', port: sink });
  const timer = setInterval(() => {
    if (!socket.writableNeedDrain) socket.write(chunk);
  }, 100);
  socket
    .on('error', () => {})
    .on('close', () => {
      clearInterval(timer);
      setTimeout(stream, 500);
    });
}
stream();

process.stdin.resume().on('end', () => process.exit());
