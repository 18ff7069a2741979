// The agent's version, from package.json beside the sources or the built tree.
import { readFileSync } from 'node:fs';

let cached: string | undefined;

/** Version of the package. */
export function version(): string {
  if (cached === undefined) {
    const text = readFileSync(new URL('../../package.json', import.meta.url), 'utf8');
    cached = (JSON.parse(text) as { version: string }).version;
  }
  return cached;
}
