// In a worker thread: gives libuv's pool more to do than is done before the worker is terminated.
import { parentPort } from 'node:worker_threads';
import { networkInterfaces, readFiles } from '../../../../exporter/kernel/native.ts';

const paths = Array.from({ length: 64 }, () => '/proc/self/maps');
const work = Array.from({ length: 50 }, () => [
  networkInterfaces('/proc/self/ns/net', 10),
  readFiles(paths, 1 << 20),
]).flat();
parentPort?.postMessage('begun');
await Promise.all(work);
