// The testbed's workload written for Node.js: node:http and plain TCP, server and client in one process.
// The commands it takes on stdin and what it answers are described in ../peers.ts.
import http from 'node:http';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

const name = process.env.PEER_NAME;
const port = Number(process.env.PEER_PORT);
const served = {};
let open = 0;

const httpServer = http.createServer((request, response) => {
  const who = request.socket.peer;
  who.name = request.headers['x-peer'];
  request.resume().on('end', () => {
    who.requests++;
    const query = new URL(request.url, 'http://host').searchParams;
    const down = Number(query.get('down'));
    response.writeHead(Number(query.get('status')) || 200, { 'x-peer': name, 'content-length': down });
    response.end(Buffer.alloc(down));
  });
});
httpServer.keepAliveTimeout = 0;

/** Answers `RAW <client> <up> <down>\n`, up bytes, with `<server>\n` and down bytes, as often as asked. */
function serveRaw(socket) {
  let head = Buffer.alloc(0);
  let missing = -1;
  let down = 0;
  socket.on('data', (chunk) => {
    let rest = chunk;
    while (rest.length > 0 || missing === 0) {
      if (missing < 0) {
        head = Buffer.concat([head, rest]);
        const end = head.indexOf(10);
        if (end < 0) return;
        const [, who, up, answer] = head.toString('latin1', 0, end).split(' ');
        socket.peer.name = who;
        missing = Number(up);
        down = Number(answer);
        rest = head.subarray(end + 1);
        head = Buffer.alloc(0);
      }
      const taken = Math.min(missing, rest.length);
      missing -= taken;
      rest = rest.subarray(taken);
      if (missing > 0) return;
      missing = -1;
      socket.peer.requests++;
      socket.write(Buffer.concat([Buffer.from(`${name}\n`), Buffer.alloc(down)]));
    }
  });
}

function settle(socket) {
  const who = socket.peer.name ?? '?';
  served[who] ??= emptyCounts();
  const total = served[who];
  total.connections++;
  total.requests += socket.peer.requests;
  total.sent += socket.bytesWritten;
  total.received += socket.bytesRead;
  open--;
}

function emptyCounts() {
  return { connections: 0, requests: 0, sent: 0, received: 0, failed: 0 };
}

function accept(socket) {
  open++;
  socket.peer = { name: undefined, requests: 0 };
  socket.setNoDelay(true);
  socket.on('error', () => {});
  socket.on('close', () => settle(socket));
  socket.once('readable', () => {
    const first = socket.read();
    if (first === null) return socket.destroy();
    socket.unshift(first);
    if (first.toString('latin1', 0, 4) === 'RAW ') serveRaw(socket);
    else httpServer.emit('connection', socket);
  });
}

async function callHttp(command, socket) {
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  agent.createConnection = () => socket;
  const result = { who: '?', requests: 0 };
  for (let i = 0; i < command.requests; i++) {
    await new Promise((resolve, reject) => {
      const path = `${command.path}?down=${command.down}&status=${command.status ?? 0}`;
      const headers = { 'x-peer': name, 'content-length': command.up };
      const method = command.up > 0 ? 'POST' : 'GET';
      const request = http.request(
        { host: command.host, port: command.port, method, path, headers, agent },
        (response) => {
          result.who = response.headers['x-peer'] ?? '?';
          response.resume().on('end', resolve).on('error', reject);
        },
      );
      request.on('error', reject);
      request.end(Buffer.alloc(command.up));
    });
    result.requests++;
    if (command.pauseMillis) await sleep(command.pauseMillis);
  }
  return result;
}

async function callRaw(command, socket) {
  const result = { who: '?', requests: 0 };
  for (let i = 0; i < command.requests; i++) {
    socket.write(
      Buffer.concat([Buffer.from(`RAW ${name} ${command.up} ${command.down}\n`), Buffer.alloc(command.up)]),
    );
    let answer = Buffer.alloc(0);
    while (answer.indexOf(10) < 0 || answer.length < answer.indexOf(10) + 1 + command.down) {
      const chunk = socket.read();
      if (chunk) answer = Buffer.concat([answer, chunk]);
      else
        await new Promise((resolve, reject) => {
          const done = (settle) => () => {
            socket.off('readable', readable).off('end', ended).off('error', ended);
            settle(new Error('connection ended'));
          };
          const readable = done(resolve);
          const ended = done(reject);
          socket.on('readable', readable).on('end', ended).on('error', ended);
        });
    }
    result.who = answer.toString('latin1', 0, answer.indexOf(10));
    result.requests++;
    if (command.pauseMillis) await sleep(command.pauseMillis);
  }
  return result;
}

async function callOnce(command) {
  const socket = net.connect(command.port, command.host);
  socket.setNoDelay(true);
  try {
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  } catch {
    return ['?', { ...emptyCounts(), failed: 1 }];
  }
  let result = { who: '?', requests: 0 };
  let failed = 0;
  socket.on('error', () => {});
  try {
    result = await (command.protocol === 'http' ? callHttp(command, socket) : callRaw(command, socket));
  } catch {
    failed = 1;
  }
  const counted = { sent: socket.bytesWritten, received: socket.bytesRead };
  socket.end();
  socket.resume();
  return [result.who, { connections: 1, requests: result.requests, ...counted, failed }];
}

async function call(command) {
  const results = {};
  for (let i = 0; i < command.connections; i++) {
    const [who, counted] = await callOnce(command);
    results[who] ??= emptyCounts();
    for (const key of Object.keys(counted)) results[who][key] += counted[key];
  }
  return results;
}

const reply = (id, result) => process.stdout.write(`${JSON.stringify({ id, result })}\n`);

createInterface({ input: process.stdin })
  .on('line', async (line) => {
    const command = JSON.parse(line);
    if (command.op === 'call') reply(command.id, await call(command));
    if (command.op === 'report') reply(command.id, { served, open });
  })
  .on('close', () => process.exit(0));
if (port > 0) net.createServer(accept).listen(port, () => reply(0, 'ready'));
else reply(0, 'ready');
