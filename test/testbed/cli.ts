// The testbed for people:
//   node test/testbed/cli.ts build                    build kube-apiserver, etcd and the Go peer into the cache
//   node test/testbed/cli.ts run <scenario> [--every <seconds>]   in the foreground, until interrupted
//   node test/testbed/cli.ts up <scenario> [--every <seconds>]    the same in the background; prints where it is
//   node test/testbed/cli.ts status | down
import { spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { buildAll } from './build.ts';
import { listSlots, reap } from './leftovers.ts';
import { runScenario } from './scenario.ts';

const usage = 'usage: node test/testbed/cli.ts build | run <scenario> | up <scenario> | status | down\n';
const logPath = join(tmpdir(), 'kubenetprobe-testbed.log');
const say = (text: string): void => void process.stdout.write(`${text}\n`);

async function run(path: string, everySeconds: number): Promise<void> {
  const stop = new AbortController();
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => stop.abort());
  const running = await runScenario(path);
  const { cluster } = running;
  say(`ready: ${cluster.slot.name}`);
  say(`  export KUBECONFIG=${cluster.controlPlane.kubeconfig}`);
  for (const node of cluster.network.nodes.values())
    say(`  node ${node.name}: ip netns exec ${node.netns} …`);
  try {
    while (!stop.signal.aborted) {
      const truth = await running.round();
      const [total] = truth.sums(() => 'all').values();
      if (total)
        say(`${truth.pairs().length} pairs, ${total.connections} connections, ${total.requests} requests`);
      for (const sentence of truth.disagreements()) say(`ends disagree: ${sentence}`);
      await sleep(everySeconds * 1000, undefined, { signal: stop.signal }).catch(() => {});
    }
  } finally {
    await running.stop();
  }
}

/** Starts `run` as a background process and waits until it is ready. */
async function up(path: string, everySeconds: string): Promise<void> {
  const log = openSync(logPath, 'w');
  const args = [import.meta.filename, 'run', path, '--every', everySeconds];
  const child = spawn(process.execPath, args, { detached: true, stdio: ['ignore', log, log] });
  closeSync(log);
  let ended = false;
  child.on('exit', () => {
    ended = true;
  });
  while (!ended && !/^ready:/m.test(readFileSync(logPath, 'utf8'))) await sleep(100);
  process.stdout.write(readFileSync(logPath, 'utf8'));
  if (ended) process.exit(1);
  say(`log: ${logPath}`);
  child.unref();
}

async function down(): Promise<void> {
  const slots = listSlots();
  for (const { ownerPid } of slots)
    if (ownerPid !== undefined && isOurs(ownerPid)) process.kill(ownerPid, 'SIGTERM');
  for (const { directory, ownerPid } of slots) {
    while (ownerPid !== undefined && isOurs(ownerPid) && existsSync(directory)) await sleep(100);
  }
  rmSync(logPath, { force: true });
  const reaped = await reap();
  if (reaped > 0) say(`removed what ${reaped} dead testbeds had left behind`);
}

/** Only testbeds that this command started: a test's own is its own business. */
function isOurs(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8')
      .split('\0')
      .includes(import.meta.filename);
  } catch {
    return false;
  }
}

function status(): void {
  for (const { number, directory, ownerPid } of listSlots()) {
    const kubeconfig = join(directory, 'admin.kubeconfig');
    const owner = ownerPid === undefined ? 'its process is gone; `down` removes it' : `process ${ownerPid}`;
    say(`knp-tb-${number}: ${owner}${existsSync(kubeconfig) ? `, KUBECONFIG=${kubeconfig}` : ''}`);
  }
}

const { positionals, values } = parseArgs({ allowPositionals: true, options: { every: { type: 'string' } } });
const [command, scenario] = positionals;
const every = values.every ?? '5';
if (command === 'build') await buildAll();
else if (command === 'run' && scenario) await run(scenario, Number(every));
else if (command === 'up' && scenario) await up(scenario, every);
else if (command === 'down') await down();
else if (command === 'status') status();
else {
  process.stderr.write(usage);
  process.exitCode = 2;
}
