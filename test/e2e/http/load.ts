// Loads that say what they did: h2load and wrk, with the numbers that they print or log themselves.
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** A wrk run: requests whose answers it read. It leaves up to one per connection in flight. */
export async function wrk(url: string, seconds: number, connections: number): Promise<number> {
  const { stdout } = await run('wrk', ['-t1', `-c${connections}`, `-d${seconds}s`, url]);
  const done = /(\d+) requests in/.exec(stdout)?.[1];
  if (done === undefined || /Socket errors/.test(stdout)) throw new Error(`wrk: ${stdout}`);
  return Number(done);
}
