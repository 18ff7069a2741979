// Node's own fetch. `node client.mjs REPEAT URL...`; see servers.ts for what every client asks for.
const [repeat, ...bases] = process.argv.slice(2);

async function ask(url, options) {
  await (await fetch(url, options)).arrayBuffer();
}

for (const base of bases) {
  for (let i = 0; i < Number(repeat); i++) {
    await ask(`${base}/ping/7?secret=s3cret`);
    await ask(`${base}/missing`);
    await ask(`${base}/broken`);
    await ask(`${base}/ping/8`, { method: 'HEAD' });
    await ask(`${base}/echo`, { method: 'POST', body: 'y'.repeat(5000) });
  }
  await ask(`${base}/large`);
}
