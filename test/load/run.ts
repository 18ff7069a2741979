// The bench runner, `make bench`: runs the benches and prints medians with their range. Needs root and a built agent.
import { parseArgs } from 'node:util';
import { BENCHES } from './benches.ts';
import { type BenchResult, type Figure, machineLine } from './measure.ts';

const HELP = `usage: node test/load/run.ts [--only NAME,...] [--pairs N] [--seconds N] [--json] [--list]

  --only     benches to run: ${BENCHES.map(({ name }) => name).join(', ')}
  --pairs    pairs (or repetitions) per figure, default 5
  --seconds  load per measurement, default 5
  --json     one JSON document instead of text
  --list     what each bench measures
`;

const number = (value: number): string =>
  value >= 1000 ? Math.round(value).toLocaleString('en') : value.toPrecision(3);

function line(result: Figure): string {
  const range = result.values.length > 1 ? ` (${number(result.min)} to ${number(result.max)})` : '';
  const goal =
    result.goal === undefined ? '' : `; goal ${result.goal.text}: ${result.goal.met ? 'met' : 'MISSED'}`;
  return `  ${result.name}: ${number(result.median)} ${result.unit}${range}${goal}`;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string' },
      pairs: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '5' },
      json: { type: 'boolean', default: false },
      list: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(HELP);
    return 0;
  }
  if (values.list) {
    for (const { name, description } of BENCHES) console.log(`${name.padEnd(12)} ${description}`);
    return 0;
  }
  const names = values.only?.split(',') ?? BENCHES.map(({ name }) => name);
  const unknown = names.find((name) => !BENCHES.some((bench) => bench.name === name));
  if (unknown !== undefined) {
    console.error(`no bench ${unknown}\n${HELP}`);
    return 2;
  }
  const options = { pairs: Number(values.pairs), seconds: Number(values.seconds) };
  if (!(options.pairs >= 1 && options.seconds >= 1)) {
    console.error('--pairs and --seconds take numbers from 1 on');
    return 2;
  }
  const machine = machineLine();
  if (!values.json) console.log(`${machine}\nmedians of ${options.pairs}, range in brackets`);
  const results: BenchResult[] = [];
  let failed = 0;
  for (const { name, description, run } of BENCHES.filter((bench) => names.includes(bench.name))) {
    if (!values.json) console.log(`${name}: ${description}`);
    try {
      const figures = await run(options);
      results.push({ bench: name, description, figures });
      if (!values.json) for (const result of figures) console.log(line(result));
    } catch (error) {
      failed++;
      console.error(`  ${name} failed: ${(error as Error).message}`);
    }
  }
  if (values.json) console.log(JSON.stringify({ machine, ...options, results }, undefined, 2));
  return failed === 0 ? 0 : 1;
}

process.exitCode = await main();
