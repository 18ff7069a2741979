// The Redis logic of bpf/ under libFuzzer for a bounded time, from the corpus in test/fuzz: no memory error, no endless
// work, nothing over twice, and bytes one by one come to the same as all at once. `make -C test/fuzz redis-fuzz
// SECONDS_MAX=3600` goes on for longer.
import { test } from 'vitest';
import { sized } from '../../volume.ts';
import { fuzzer, survives } from '../fuzzing.ts';

test.skipIf(!fuzzer.available)(
  `the Redis logic survives what the fuzzer thinks of${fuzzer.why}`,
  { timeout: 900_000 },
  () => survives('redis-fuzz', 'redis/corpus', sized(300, 0.05)),
);
