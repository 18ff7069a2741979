// What a protocol's programs cost: the kernel accounts the whole to the program that was entered, so the stream layer counts
// the runs itself and times some of them.
import { afterAll, beforeAll, expect, test } from 'vitest';
import { enableBpfStats } from '../../../exporter/kernel/native.ts';
import { endAll, h2load, METHOD_STATUS, Nginx, Probe } from './harness.ts';

const REQUESTS = 10_000;

let nginx: Nginx;
let probe: Probe;

beforeAll(async () => {
  nginx = await Nginx.start('location / { return 200 "hello\\n"; }');
  probe = new Probe();
}, 60_000);

afterAll(async () => {
  probe?.close();
  nginx?.remove();
  await endAll();
});

function called(): { runs: number; nanos: number } {
  const programs = probe.http.http1.called?.() ?? [];
  return {
    runs: programs.reduce((sum, { runCount }) => sum + runCount, 0),
    nanos: programs.reduce((sum, { runTimeNs }) => sum + runTimeNs, 0),
  };
}

function entered(): number {
  const programs = probe.http.loaded.choices.flatMap((choice) => choice.programs);
  return programs.reduce((sum, name) => sum + probe.http.loaded.program(name).info().runTimeNs, 0);
}

test('each call that moves bytes of a connection is a run of its protocol, and part of what its hook costs', async () => {
  const stats = enableBpfStats();
  try {
    await h2load(nginx.url('/hello'), 1000, 8);
    const [before, enteredBefore] = [called(), entered()];
    await h2load(nginx.url('/hello'), REQUESTS, 8);
    const [after, enteredAfter] = [called(), entered()];
    // asked, read, answered, read
    expect(after.runs - before.runs).toBeGreaterThanOrEqual(4 * REQUESTS);
    const nanos = after.nanos - before.nanos;
    expect(nanos).toBeGreaterThan(0);
    expect(nanos).toBeLessThan(enteredAfter - enteredBefore);
    expect(await probe.table('server', { server_port: nginx.port }, METHOD_STATUS)).toEqual({
      'GET 200': REQUESTS + 1000,
    });
  } finally {
    stats.close();
  }
}, 120_000);

test('an object that calls nobody says nothing of it', () => {
  expect(probe.http.loaded.called).toBeUndefined();
  expect(probe.http.http1.called?.().map(({ program }) => program)).toContainEqual(
    expect.stringMatching(/^http1_/),
  );
});
