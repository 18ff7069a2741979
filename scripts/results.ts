// What a stage of the test command yields, and the summary that ends it. Used by scripts/test.ts and its vitest reporter.

export type Results = {
  passed: number;
  /** Names of what failed. */
  failed: string[];
  skipped: { name: string; reason: string }[];
  /** How long each test file or check took. */
  times: { name: string; seconds: number }[];
};

export const noResults = (): Results => ({ passed: 0, failed: [], skipped: [], times: [] });

export type StageResults = Results & { stage: string; seconds: number };

/** Names the file that the vitest reporter writes. */
export const RESULTS_FILE_VARIABLE = 'KNPTEST_RESULTS';

/** Of each stage so many of the slowest test files are listed, so that one knows what to move when it gets long. */
const SLOWEST = 10;

/** The text that ends a run: what took long, one line per skipped and failed check, stages with times, then the totals. */
export function summary(stages: readonly StageResults[]): string {
  const lines: string[] = ['', ...stages.flatMap(slowest)];
  for (const { stage, skipped } of stages) {
    for (const { name, reason } of skipped) lines.push(`skipped  [${stage}] ${name}: ${reason}`);
  }
  for (const { stage, failed } of stages) {
    for (const name of failed) lines.push(`FAILED   [${stage}] ${name}`);
  }
  for (const { stage, passed, failed, skipped, seconds } of stages) {
    const counts = `${passed} passed, ${failed.length} failed, ${skipped.length} skipped`;
    lines.push(`${stage.padEnd(16)} ${counts} in ${duration(seconds)}`);
  }
  const seconds = stages.reduce((total, stage) => total + stage.seconds, 0);
  lines.push(`${'all stages'.padEnd(16)} ${duration(seconds)}`);
  const sum = (count: (results: StageResults) => number): number =>
    stages.reduce((total, stage) => total + count(stage), 0);
  const passed = sum((stage) => stage.passed);
  const failed = sum((stage) => stage.failed.length);
  const skipped = sum((stage) => stage.skipped.length);
  lines.push(`${passed} passed, ${failed} failed, ${skipped} skipped`);
  return lines.join('\n');
}

/** Nothing for a stage whose parts all took less than a second. */
function slowest({ stage, times }: StageResults): string[] {
  const listed = times
    .filter(({ seconds }) => seconds >= 1)
    .sort((a, b) => b.seconds - a.seconds)
    .slice(0, SLOWEST);
  if (listed.length === 0) return [];
  const lines = listed.map(({ name, seconds }) => `${duration(seconds).padStart(12)}  ${name}`);
  return [`slowest of ${stage}:`, ...lines];
}

function duration(seconds: number): string {
  const whole = Math.round(seconds);
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min ${whole % 60} s`;
}
