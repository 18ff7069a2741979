// Attaches, says "attached PROGRAM-ID LINK-ID", and then ends or waits as told: exit, throw, callback (throws in one),
// natural, wait, close.
import { openObject, RingBuffer } from '../../../../exporter/kernel/native.ts';

const [objectPath, how] = process.argv.slice(2) as [string, string];
const object = openObject(objectPath, { rodata: { target_pid: process.pid } });
object.load();
const program = object.program('knpt_ring');
const link = program.attach();
const reader = new RingBuffer(object.map('events'), () => {
  if (how === 'callback') throw new Error('uncaught on purpose');
});
process.stdout.write(`attached ${program.info().id} ${link.info()?.id}\n`, () => {
  if (how === 'exit') process.exit(0);
  if (how === 'throw') throw new Error('uncaught on purpose');
  if (how === 'callback') void process.ppid; // one record
  if (how === 'natural') reader.unref();
  if (how === 'close') reader.close();
});
