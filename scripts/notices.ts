// Prints THIRD_PARTY_NOTICES, from esbuild's metafile of the bundle. Called by `make build`.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { bundledFolders, nativeComponents, packageComponent, render } from './third_party.ts';

const ROOT = join(import.meta.dirname, '..');
const [metafile] = process.argv.slice(2);
if (metafile === undefined) throw new Error('usage: node scripts/notices.ts METAFILE');

const folders = bundledFolders(JSON.parse(readFileSync(metafile, 'utf8')));
const bundled = folders.map((folder) => packageComponent(join(ROOT, folder), 'dist/agent, bundled'));
const node = {
  ...packageComponent(
    join(ROOT, `node_modules/node-linux-${process.arch}`),
    'node/bin/node; the text names what it contains in turn',
  ),
  name: 'Node.js',
};
process.stdout.write(render([node, ...nativeComponents(ROOT), ...bundled]));
