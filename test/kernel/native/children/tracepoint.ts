// Mounts tracefs in a mount namespace of its own (see the caller), attaches a plain tracepoint, counts its own getppid.
import { openObject } from '../../../../exporter/kernel/native.ts';

const object = openObject(process.argv[2] as string, {
  rodata: { target_pid: process.pid },
  autoload: Object.fromEntries(
    JSON.parse(process.argv[3] as string).map((n: string) => [n, n === 'knpt_tracepoint']),
  ),
});
object.load();
const link = object.program('knpt_tracepoint').attach();
const { type } = link.info() ?? { type: 'none' };
for (let i = 0; i < 1000; i++) void process.ppid;
link.close();
for (let i = 0; i < 1000; i++) void process.ppid;
const key = Buffer.alloc(4);
key.writeUInt32LE(2);
const count = Number(object.map('hits').lookup(key)?.readBigUInt64LE(0));
object.close();
process.stdout.write(JSON.stringify({ type, count }));
