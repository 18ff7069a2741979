// What watches the demo's shop: the agent, Prometheus with the shipped rules, Alertmanager with the example
// configuration, and a webhook. Called by demo.ts.
import { once } from 'node:events';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { parse, stringify } from 'yaml';
import { ruleFiles } from '../../alerts/generate.ts';
import { type AlertName, DEFAULT_HOLD, DEFAULT_SETTINGS, type Settings } from '../../alerts/settings.ts';
import { freePort, type Processes, type Started, untilServing } from './processes.ts';

const ROOT = join(import.meta.dirname, '../..');
export const CLUSTER = 'demo';

/** The shipped rules with windows that a person can wait for. */
export const DEMO_SETTINGS: Settings = {
  ...DEFAULT_SETTINGS,
  interval: '1s',
  windows: {
    rate: '15s',
    fast: ['15s', '30s'],
    slow: ['20s', '40s'],
    trafficBefore: '30s',
    trafficAgo: '20s',
    rtt: '20s',
    rttAgo: '60s',
  },
  hold: {
    ...(Object.fromEntries(Object.keys(DEFAULT_HOLD).map((name) => [name, '3s'])) as Record<AlertName, '3s'>),
    // A busy machine may miss a scrape or two.
    KnpAgentDown: '10s',
    KnpAgentAbsent: '10s',
  },
};

/** One alert as a webhook receives it. */
export interface Delivered {
  readonly status: 'firing' | 'resolved';
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

export interface Monitoring {
  readonly agent: Started;
  readonly agentUrl: string;
  readonly prometheusUrl: string;
  readonly alertmanagerUrl: string;
  readonly webhook: Server;
}

async function startWebhook(onAlert: (alert: Delivered) => void): Promise<{ server: Server; url: string }> {
  const server = createServer(async (request, response) => {
    try {
      let body = '';
      for await (const chunk of request) body += String(chunk);
      for (const alert of (JSON.parse(body) as { alerts: Delivered[] }).alerts) onAlert(alert);
      response.end();
    } catch (error) {
      response.statusCode = 400;
      response.end(String(error));
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return { server, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

/** alerts/alertmanager/alertmanager.yaml, with this webhook and without patience. */
function alertmanagerConfig(webhook: string): string {
  interface Example {
    route: Record<string, unknown>;
    receivers: { webhook_configs: { url: string }[] }[];
  }
  const text = readFileSync(join(ROOT, 'alerts/alertmanager/alertmanager.yaml'), 'utf8');
  const config = parse(text) as Example;
  Object.assign(config.route, { group_wait: '0s', group_interval: '1s', repeat_interval: '1h' });
  for (const { webhook_configs } of config.receivers)
    for (const each of webhook_configs) each.url = each.url.replace(/^http:\/\/[^/]+/, webhook);
  return stringify(config);
}

function prometheusConfig(folder: string, agentPort: number, alertmanagerPort: number): string {
  return stringify({
    global: { scrape_interval: '2s', scrape_timeout: '2s', evaluation_interval: '1s' },
    rule_files: [join(folder, 'rules/*.yaml')],
    alerting: { alertmanagers: [{ static_configs: [{ targets: [`127.0.0.1:${alertmanagerPort}`] }] }] },
    scrape_configs: [
      {
        job_name: 'kubenetprobe',
        static_configs: [{ targets: [`127.0.0.1:${agentPort}`], labels: { cluster: CLUSTER } }],
      },
    ],
  });
}

export async function startMonitoring(
  processes: Processes,
  folder: string,
  onAlert: (alert: Delivered) => void,
): Promise<Monitoring> {
  const [agentPort, prometheusPort, alertmanagerPort] = [
    await freePort(),
    await freePort(),
    await freePort(),
  ];
  const webhook = await startWebhook(onAlert);
  mkdirSync(join(folder, 'rules'));
  for (const [name, content] of ruleFiles(DEMO_SETTINGS)) writeFileSync(join(folder, 'rules', name), content);
  const file = (name: string, content: string): string => {
    const path = join(folder, name);
    writeFileSync(path, content);
    return path;
  };
  const agentUrl = `http://127.0.0.1:${agentPort}`;
  const agent = processes.start([
    join(ROOT, 'bin/kubenetprobe'),
    'run',
    '--listen',
    `127.0.0.1:${agentPort}`,
  ]);
  await untilServing('the agent', `${agentUrl}/readyz`, agent);
  const alertmanagerUrl = `http://127.0.0.1:${alertmanagerPort}`;
  const alertmanager = processes.start([
    'prometheus-alertmanager',
    `--config.file=${file('alertmanager.yaml', alertmanagerConfig(webhook.url))}`,
    `--storage.path=${join(folder, 'alertmanager')}`,
    `--web.listen-address=127.0.0.1:${alertmanagerPort}`,
    '--cluster.listen-address=',
    '--log.level=warn',
  ]);
  const prometheusUrl = `http://127.0.0.1:${prometheusPort}`;
  const prometheus = processes.start([
    'prometheus',
    `--config.file=${file('prometheus.yaml', prometheusConfig(folder, agentPort, alertmanagerPort))}`,
    `--storage.tsdb.path=${join(folder, 'prometheus')}`,
    `--web.listen-address=127.0.0.1:${prometheusPort}`,
    '--enable-feature=exemplar-storage',
    // Resolved alerts are told at once, not after a minute.
    '--rules.alert.resend-delay=1s',
    '--log.level=warn',
  ]);
  await untilServing('Alertmanager', `${alertmanagerUrl}/-/ready`, alertmanager);
  await untilServing('Prometheus', `${prometheusUrl}/-/ready`, prometheus);
  return { agent, agentUrl, prometheusUrl, alertmanagerUrl, webhook: webhook.server };
}
