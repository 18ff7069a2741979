// Prints the keys and paths of the mapped files whose name is the argument, and what the scanner counted.
import { basename } from 'node:path';
import { MappedFileScanner } from '../../../../exporter/kernel/mapped_files.ts';

const [, , wanted] = process.argv;
const scanner = new MappedFileScanner({
  matches: (path) => basename(path) === wanted,
  links: 0,
  attach: () => [],
});
const keys: string[] = [];
for await (const { key } of { [Symbol.asyncIterator]: () => scanner.scan() }) keys.push(key);
process.stdout.write(JSON.stringify({ keys, status: scanner.status() }));
