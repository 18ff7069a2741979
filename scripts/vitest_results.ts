// A vitest reporter that writes one small JSON file for scripts/test.ts: how many tests passed, which failed, which were
// skipped and why, and how long each file took. Used beside a reporter for people.
import { writeFileSync } from 'node:fs';
import type { Reporter, TestModule } from 'vitest/node';
import { noResults, RESULTS_FILE_VARIABLE, type Results } from './results.ts';

export default class ResultsReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly { message?: string }[]): void {
    const results = noResults();
    for (const module of modules) addModule(module, results);
    for (const error of unhandledErrors) results.failed.push(`unhandled error: ${String(error.message)}`);
    const file = process.env[RESULTS_FILE_VARIABLE];
    if (file !== undefined) writeFileSync(file, JSON.stringify(results));
  }
}

function addModule(module: TestModule, results: Results): void {
  const before = results.failed.length;
  const { prepareDuration, collectDuration, setupDuration, duration } = module.diagnostic();
  const millis = prepareDuration + collectDuration + setupDuration + duration;
  results.times.push({ name: module.relativeModuleId, seconds: millis / 1000 });
  for (const test of module.children.allTests()) {
    const name = `${module.relativeModuleId} > ${test.fullName}`;
    const result = test.result();
    if (result.state === 'passed') results.passed++;
    else if (result.state === 'skipped')
      results.skipped.push({ name, reason: result.note ?? 'no reason was given' });
    else if (result.state === 'failed') results.failed.push(name);
    else results.failed.push(`${name} (did not end)`);
  }
  // A file that cannot be imported, or whose hooks fail, may have no failed test of its own.
  if (module.state() === 'failed' && results.failed.length === before) {
    const [error] = module.errors();
    results.failed.push(
      `${module.relativeModuleId}: ${String(error?.message ?? 'a hook failed').split('\n')[0]}`,
    );
  }
}
