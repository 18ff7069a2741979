// The HTTP/1 logic of bpf/ under libFuzzer for a bounded time, from the corpus in test/fuzz: no memory error, no endless
// work, nothing settled twice. `make -C test/fuzz fuzz SECONDS_MAX=3600` goes on for longer.
import { test } from 'vitest';
import { sized } from '../../volume.ts';
import { fuzzer, survives } from '../fuzzing.ts';

test.skipIf(!fuzzer.available)(
  `the HTTP/1 logic survives what the fuzzer thinks of${fuzzer.why}`,
  { timeout: 900_000 },
  () => survives('fuzz', 'corpus', sized(600, 0.05)),
);
