// The shop's front: GET / asks the cart (HTTP), the search (HTTP) and the stock (its own line protocol over TCP).
//   node web.mjs PORT CART_PORT SEARCH_PORT STOCK_PORT
import { createServer, get } from 'node:http';
import { connect } from 'node:net';

process.title = 'shop-web';
const [port, cart, search, stock] = process.argv.slice(2).map(Number);

/** Status of a GET, 0 when there was no answer. */
const ask = (to, path) =>
  new Promise((resolve) => {
    const request = get({ host: '127.0.0.1', port: to, path, timeout: 4000 }, (response) => {
      response
        .resume()
        .on('end', () => resolve(response.statusCode))
        .on('error', () => resolve(0));
    });
    request.on('timeout', () => request.destroy()).on('error', () => resolve(0));
  });

const askStock = (item) =>
  new Promise((resolve) => {
    const socket = connect({ host: '127.0.0.1', port: stock, timeout: 1000 }, () => socket.end(`${item}\n`));
    socket
      .on('data', () => {})
      .on('close', resolve)
      .on('error', () => {})
      .on('timeout', () => socket.destroy());
  });

let served = 0;
createServer(async (_request, response) => {
  const item = served++ % 50;
  const [inCart] = await Promise.all([
    ask(cart, `/cart/${item}`),
    ask(search, `/search/${item}`),
    askStock(item),
  ]);
  response.statusCode = inCart === 200 ? 200 : 502;
  response.end(`<p>item ${item}</p>`.padEnd(3000));
}).listen(port, '127.0.0.1');

process.stdin.resume().on('end', () => process.exit());
