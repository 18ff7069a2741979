// Attaches uprobes, starts to close them on the pool, and ends as told while that goes on. As a process or as a worker.
// Says "closing PROGRAM-ID" first.
import { parentPort, workerData } from 'node:worker_threads';
import { openObject } from '../../../../exporter/kernel/native.ts';
import { scaled } from '../../../guests/scale.ts';

const [objectPath, target, how] = (workerData ?? process.argv.slice(2)) as [string, string, string];
const described = openObject(objectPath);
const autoload = Object.fromEntries(described.programs.map(({ name }) => [name, name === 'knpt_call']));
described.close();
const object = openObject(objectPath, { autoload });
object.load();
const program = object.program('knpt_call');
const links = Array.from({ length: scaled(20, 5) }, () =>
  program.attachUprobe({ path: target, symbol: 'knpt_target' }),
);
const { id } = program.info();
const closes = links.map((link) => link.closeLater());

function end(): void {
  if (how === 'exit') process.exit(0);
  if (how === 'throw') throw new Error('uncaught on purpose');
  if (how === 'object') {
    object.close();
    object.close();
    void Promise.all(closes).then(() => process.exit(0));
  }
  // natural: ends when the last link is closed
}

if (parentPort) {
  parentPort.postMessage({ program: id });
  setImmediate(end);
} else {
  process.stdout.write(`closing ${id}\n`, () => setImmediate(end));
}
