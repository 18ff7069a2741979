// Test projects. `unit` runs anywhere; `kernel` loads real BPF programs and needs root; `e2e` runs the built agent.
import { defineConfig } from 'vitest/config';

// The guests' processor is emulated: patience grows there as the work shrinks (test/guests/scale.ts).
const scale = 1 / Number(process.env.KNPTEST_SCALE ?? 1);

// Kernel state is shared by the whole machine: one file at a time, each in a process of its own.
const alone = { pool: 'forks', fileParallelism: false } as const;

export default defineConfig({
  test: {
    projects: [
      { test: { name: 'unit', include: ['test/unit/**/*.test.ts'], testTimeout: 120_000 } },
      {
        test: {
          name: 'kernel',
          include: ['test/kernel/**/*.test.ts'],
          testTimeout: 120_000 * scale,
          hookTimeout: 60_000 * scale,
          ...alone,
        },
      },
      {
        test: {
          name: 'e2e',
          include: ['test/e2e/**/*.test.ts'],
          testTimeout: 300_000,
          hookTimeout: 300_000,
          ...alone,
        },
      },
    ],
  },
});
