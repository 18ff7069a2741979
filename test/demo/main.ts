// `make demo`: starts the demo, prints what to open and try, takes faults from the terminal, ends on Ctrl-C.
import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type Demo, demoUnavailable, startDemo } from './demo.ts';
import type { Delivered } from './monitoring.ts';
import { FAULTS, type FaultName } from './shop.ts';

const say = (text = ''): void => void process.stdout.write(`${text}\n`);
const names = Object.keys(FAULTS) as FaultName[];

function showAlert({ status, labels, annotations }: Delivered): void {
  const time = new Date().toTimeString().slice(0, 8);
  say(
    `${time} ${status === 'firing' ? '🔥 firing  ' : '✔  resolved'} ${labels.alertname}: ${annotations.summary}`,
  );
}

function help(demo: Demo): void {
  say('A fault and Enter switches it on; again switches it off:');
  for (const name of names) say(`  ${name.padEnd(9)} ${FAULTS[name].about}   → ${FAULTS[name].alert}`);
  const on = [...demo.shop.on];
  say(on.length === 0 ? 'None is on.' : `On: ${on.join(', ')}`);
}

function grafana(prometheusUrl: string): void {
  const compose = join(import.meta.dirname, 'compose.yaml');
  const command = `PROMETHEUS_URL=${prometheusUrl} docker compose -f ${compose} up`;
  if (spawnSync('docker', ['info'], { stdio: 'ignore' }).status === 0) {
    say(
      `  Grafana       in another terminal: ${command}\n                then http://127.0.0.1:13000/dashboards`,
    );
  } else {
    say(`  Grafana       there is no container engine here; where there is one: ${command}`);
  }
}

function welcome(demo: Demo): void {
  const cli = join(import.meta.dirname, '../../bin/kubenetprobe');
  say();
  say('Open:');
  say(`  Prometheus    ${demo.prometheusUrl}/alerts   ${demo.prometheusUrl}/graph`);
  say(`  Alertmanager  ${demo.alertmanagerUrl}`);
  say(`  agent         ${demo.agentUrl}/metrics`);
  grafana(demo.prometheusUrl);
  say('Try:');
  say(`  ${cli} top --from ${demo.agentUrl}`);
  say(`  ${cli} map --from ${demo.agentUrl}`);
  say();
  help(demo);
  say('Ctrl-C ends the demo and removes everything. Alerts appear below, some 20 seconds after their fault.');
  say();
}

function toggle(demo: Demo, word: string): void {
  const fault = names.find((name) => name === word);
  if (fault === undefined) {
    help(demo);
    return;
  }
  const reason = demo.shop.unavailable(fault);
  if (reason !== undefined) {
    say(reason);
    return;
  }
  demo.shop.set(fault, !demo.shop.on.has(fault));
  say(`${fault} is ${demo.shop.on.has(fault) ? 'on' : 'off'}`);
}

const reason = demoUnavailable();
if (reason !== undefined) {
  process.stderr.write(`demo: ${reason}\n`);
  process.exit(1);
}
const stopping = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => stopping.abort());

say('Starting the shop, the agent, Prometheus and Alertmanager …');
const demo = await startDemo(showAlert);
try {
  welcome(demo);
  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => toggle(demo, line.trim()));
  if (!stopping.signal.aborted) await once(stopping.signal, 'abort');
  lines.close();
} finally {
  say('Stopping …');
  await demo.stop();
}
