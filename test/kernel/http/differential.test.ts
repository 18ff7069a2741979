// Random traffic whose own ledger is the truth: every call that moves bytes over a socket, all framings of HTTP/1,
// pipelines, connections that are closed, reset and given up, for every provider that this kernel offers. What is counted
// is what the ledger says, or what is missing was reported lost.
//
// KNPTEST_SEED=n repeats a run; it is printed when something differs, with the smallest connection that shows it.
// KNPTEST_KINDS turns on what is not in the mix (differential/traffic.ts).
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { GUEST } from '../../guests/scale.ts';
import { sized } from '../../volume.ts';
import { buildPeer } from '../peers/build.ts';
import {
  type Differences,
  describeConnection,
  differences,
  follow,
  isExplained,
  lostBy,
  scriptOf,
  smallest,
} from './differential/compare.ts';
import { seedOf } from './differential/random.ts';
import { type Connection, KINDS, type Kinds, makeConnection } from './differential/traffic.ts';
import { probeOf, WAYS } from './differential/ways.ts';
import type { Probe } from './harness.ts';

/** The same in every short run, so that what turns red is what was changed; another in every full one. */
const SEED = Number(process.env.KNPTEST_SEED ?? 1 + sized(Math.floor(Math.random() * 2 ** 31), 0));
const KINDS_ON = new Set(
  (process.env.KNPTEST_KINDS ?? '').split(',').filter((name) => name in KINDS),
) as Kinds;
/** Rounds of each provider; each is LANES scripts at once, of CONNECTIONS one behind the other. */
const ROUNDS = sized(120, 0.05);
const LANES = 3;
const CONNECTIONS = 150;

beforeAll(() => buildPeer('differential_peer'));

/** A lane's connections. Every other lane has none that is given up: there, bytes are compared too. */
function connectionsOf(seed: number, lane: number): Connection[] {
  return Array.from({ length: CONNECTIONS }, (_, i) =>
    makeConnection(seedOf(seed, i), lane % 2 === 0, KINDS_ON),
  );
}

interface Round {
  readonly lanes: readonly Connection[][];
  readonly exchanges: number;
  readonly found: readonly Differences[];
  readonly lost: number;
}

async function play(probe: Probe, seed: number): Promise<Round> {
  const lanes = Array.from({ length: LANES }, (_, lane) => connectionsOf(seedOf(seed, 1000 + lane), lane));
  const scripts = lanes.map((connections) => scriptOf(connections, KINDS_ON));
  const before = await lostBy(probe);
  const ports = await Promise.all(scripts.map(follow));
  const found: Differences[] = [];
  for (const [lane, script] of scripts.entries())
    found.push(await differences(probe, ports[lane] ?? 0, script));
  const exchanges = scripts.reduce((sum, script) => sum + script.exchanges, 0);
  return { lanes, exchanges, found, lost: (await lostBy(probe)) - before };
}

/**
 * One round; answers how many exchanges it had. Losses are counted for the whole host, and others may send what nobody can
 * follow: where some were reported, the same is played again, at most twice.
 */
async function round(probe: Probe, seed: number, attempt = 1): Promise<number> {
  const { lanes, exchanges, found, lost } = await play(probe, seed);
  const all: Differences = {
    rows: Object.assign({}, ...found.map(({ rows }, lane) => prefixed(`lane ${lane} `, rows))),
    missing: found.reduce((sum, { missing }) => sum + missing, 0),
  };
  if (isExplained(all, lost)) return exchanges;
  if (lost > 0 && attempt < 3) return round(probe, seed, attempt + 1);
  const culprit = Math.max(
    0,
    found.findIndex(({ rows }) => Object.keys(rows).length > 0),
  );
  const least = await smallest(probe, lanes[culprit] ?? [], KINDS_ON);
  const shown = least === undefined ? 'no connection shows it alone' : describeConnection(least, KINDS_ON);
  throw new Error(`KNPTEST_SEED=${seed}: ${lost} reported lost; ${JSON.stringify(all)}\n${shown}`);
}

function prefixed<T>(prefix: string, rows: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(rows).map(([name, value]) => [prefix + name, value]));
}

describe.skipIf(GUEST !== undefined).each(WAYS)('$name', (way) => {
  let probe: Probe;

  beforeAll(() => {
    if (way.missing === undefined) probe = probeOf(way);
  });
  afterAll(() => probe?.close());

  it('counts random traffic as it was', async (context) => {
    if (way.missing !== undefined) context.skip(`no ${way.provider} provider: ${way.missing}`);
    let exchanges = 0;
    for (let i = 0; i < ROUNDS; i++) exchanges += await round(probe, SEED + i);
    expect(exchanges).toBeGreaterThan(ROUNDS * LANES * CONNECTIONS);
  }, 3_600_000);
});
