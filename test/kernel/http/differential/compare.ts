// Runs scripts and compares what was counted with their ledgers; looks for the smallest connection that shows a difference.
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { peerPath } from '../../peers/build.ts';
import { freePort, METHOD_STATUS_ROUTE, type Probe } from '../harness.ts';
import { type Play, Script, type Table } from './script.ts';
import { type Connection, type Kinds, smaller } from './traffic.ts';

const BY = [...METHOD_STATUS_ROUTE, 'network_protocol_version', 'error_type'] as const;
const SIDES = ['client', 'server'] as const;
/** How many smaller connections are tried. */
const TRIES = 150;

const execute = promisify(execFile);

export function scriptOf(connections: readonly Connection[], kinds: Kinds): Script {
  const script = new Script(kinds);
  for (const connection of connections) script.add(connection);
  return script;
}

/** Both ends follow the script; answers the server's port. */
export async function follow(script: Play): Promise<number> {
  const directory = mkdtempSync(join(tmpdir(), 'knp-differential-'));
  try {
    writeFileSync(join(directory, 'requests'), script.requests);
    writeFileSync(join(directory, 'answers'), script.answers);
    for (const side of SIDES) writeFileSync(join(directory, side), `${script.steps[side].join('\n')}\n`);
    const port = await freePort();
    await execute(peerPath('differential_peer'), [directory, String(port)], {
      timeout: 150_000,
      killSignal: 'SIGKILL',
    });
    return port;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

/** Where what was counted is not what the ledger says. */
export interface Differences {
  /** Row: [counted, true]. */
  readonly rows: Readonly<Record<string, readonly [number, number]>>;
  /** Requests that were not counted, at both ends. */
  readonly missing: number;
}

export async function differences(probe: Probe, port: number, script: Play): Promise<Differences> {
  const rows: Record<string, readonly [number, number]> = {};
  let missing = 0;
  const compare = (name: string, counted: number, truth: number) => {
    if (counted !== truth) rows[name] = [counted, truth];
  };
  for (const side of SIDES) {
    const counted: Table = await probe.table(side, { server_port: port }, BY);
    const truth = script.ledger[side];
    for (const row of new Set([...Object.keys(counted), ...Object.keys(truth)])) {
      compare(`${side} ${row}`, counted[row] ?? 0, truth[row] ?? 0);
      missing += Math.max(0, (truth[row] ?? 0) - (counted[row] ?? 0));
    }
    for (const part of ['request', 'response'] as const) {
      const points = probe.points(`http.${side}.${part}.body.size`, { server_port: port });
      const bytes = points.reduce((total, point) => total + point.sum, 0);
      if (script.bodies !== undefined && missing === 0)
        compare(`${side} ${part} body bytes`, bytes, script.bodies[part]);
    }
    const active = probe.points(`http.${side}.active_requests`, { server_port: port });
    compare(
      `${side} in flight`,
      active.reduce((total, point) => total + point.value, 0),
      0,
    );
  }
  return { rows, missing };
}

/** Is all that differs that requests are missing, as many as were reported lost? */
export function isExplained({ rows, missing }: Differences, lost: number): boolean {
  if (missing === 0) return lost === 0 && Object.keys(rows).length === 0;
  return missing === lost && Object.values(rows).every(([counted, truth]) => counted <= truth);
}

/** Requests that were reported lost so far. */
export async function lostBy(probe: Probe): Promise<number> {
  return Object.values(await probe.lost()).reduce((sum, count) => sum + count, 0);
}

/** The smallest connection found that still shows a difference; undefined: none does alone. */
export async function smallest(
  probe: Probe,
  connections: readonly Connection[],
  kinds: Kinds,
): Promise<Connection | undefined> {
  const shows = async (some: readonly Connection[]): Promise<boolean> => {
    const script = scriptOf(some, kinds);
    try {
      const before = await lostBy(probe);
      const found = await differences(probe, await follow(script), script);
      return !isExplained(found, (await lostBy(probe)) - before);
    } catch {
      return false; // cut down to what is no legal traffic
    }
  };
  let some = connections;
  while (some.length > 1) {
    const half = some.slice(0, some.length >> 1);
    some = (await shows(half)) ? half : some.slice(some.length >> 1);
  }
  let [found] = some;
  if (found === undefined || !(await shows([found]))) return undefined;
  for (let tries = 0, before: Connection | undefined; found !== before; ) {
    before = found;
    for (const less of smaller(found)) {
      if (tries++ > TRIES) return found;
      if (await shows([less])) {
        found = less;
        break;
      }
    }
  }
  return found;
}

/** A connection for people: what is asked and answered, and every step. */
export function describeConnection(connection: Connection, kinds: Kinds): string {
  const script = scriptOf([connection], kinds);
  const quoted = (bytes: Buffer) => JSON.stringify(bytes.toString('latin1').slice(0, 4000));
  return [
    `requests: ${quoted(script.requests)}`,
    `answers: ${quoted(script.answers)}`,
    ...SIDES.flatMap((side) => [`${side}:`, ...script.steps[side].map((step) => `  ${step}`)]),
    `ledger: ${JSON.stringify(script.ledger)}`,
  ].join('\n');
}
