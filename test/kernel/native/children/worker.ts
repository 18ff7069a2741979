// In a worker thread: attaches, reads a ring, reports, then ends as told by its parent.
import { parentPort, workerData } from 'node:worker_threads';
import { openObject, RingBuffer } from '../../../../exporter/kernel/native.ts';

const object = openObject(workerData.path, { rodata: { target_pid: process.pid } });
object.load();
const program = object.program('knpt_ring');
program.attach();
let received = 0;
new RingBuffer(object.map('events'), (_batch, count) => {
  received += count;
  if (received === 10) parentPort?.postMessage({ received });
});
parentPort?.postMessage({ program: program.info().id });
parentPort?.on('message', (how) => {
  if (how === 'exit') process.exit(0);
  if (how === 'throw') throw new Error('uncaught on purpose');
});
