// What naming a large cluster costs: memory, CPU, longest hold of the event loop, and what the API server is asked for,
// with 10,000 pods and 1,000 services, at the start and while 10 pods a second are replaced.
// Runs alone after a build: `node test/load/cluster.ts [--json] [--seconds N]`. The agent's part is a process of its own.
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { FakeApiServer, type FakeObject, keyOf } from '../unit/identity/kubernetes/fake_api_server.ts';
import { node, pod, service, slice } from '../unit/identity/kubernetes/fixtures.ts';

const NODES = 100;
const SERVICES = 1000;
const PODS_PER_SERVICE = 10;
const CHURN_PER_SECOND = 10;
const MEGABYTE = 1 << 20;

interface Weight {
  readonly rss: number;
  readonly cpuMillis: number;
  readonly holdCpuMillis: number;
  readonly events: number;
}

/** What a pod weighs in a real cluster, about 6 KB: what naming does not need, the reader must skip. */
function heavy(object: FakeObject): FakeObject {
  const env = Array.from({ length: 20 }, (_, i) => ({
    name: `SETTING_${i}`,
    value: `the value of setting ${i}`,
  }));
  const fields = Object.fromEntries(
    Array.from({ length: 40 }, (_, i) => [`f:field-${i}`, { '.': {}, 'f:x': {} }]),
  );
  object.metadata.managedFields = [{ manager: 'kubelet', operation: 'Update', fieldsV1: fields }];
  object.spec.containers = ['app', 'sidecar'].map((name) => ({ name, image: 'app:1.2.3', env }));
  object.status.conditions = Array.from({ length: 5 }, (_, i) => ({ type: `Condition${i}`, status: 'True' }));
  return object;
}

class Crowd {
  readonly server = new FakeApiServer();
  readonly #services: FakeObject[][] = [];
  #turn = 0;

  #pod(workload: number, place: number, turn: number): FakeObject {
    const on = place % NODES;
    const ip = `10.${on}.${turn % 200}.${1 + (Math.floor(place / NODES) % 250)}`;
    return heavy(pod(`workload-${workload}`, { node: `node-${on}`, ip }));
  }

  fill(): void {
    for (let i = 0; i < NODES; i++)
      this.server.put('nodes', node(`node-${i}`, `192.168.0.${i}`, `10.${i}.0.0/16`, `zone-${i % 3}`));
    for (let i = 0; i < SERVICES; i++) {
      const pods = Array.from({ length: PODS_PER_SERVICE }, (_, k) =>
        this.#pod(i, i * PODS_PER_SERVICE + k, 0),
      );
      for (const object of pods) this.server.put('pods', object);
      this.#services.push(pods);
      this.server.put('services', service(`service-${i}`, { clusterIP: `10.200.${i >> 8}.${i & 255}` }));
      this.server.put('endpointslices', slice(`service-${i}`, pods));
    }
  }

  /** One pod goes, another comes with another address, and the slice follows. */
  replaceOne(): void {
    const turn = ++this.#turn;
    const index = (turn * 7) % SERVICES;
    const pods = this.#services[index] as FakeObject[];
    const place = turn % PODS_PER_SERVICE;
    this.server.remove('pods', keyOf(pods[place] as FakeObject));
    pods[place] = this.#pod(index, index * PODS_PER_SERVICE + place, turn);
    this.server.put('pods', pods[place]);
    this.server.put('endpointslices', slice(`service-${index}`, pods));
  }
}

async function measure(
  crowd: Crowd,
  url: string,
  remote: 'pods' | 'endpointslices',
  seconds: number,
): Promise<object> {
  const { server } = crowd;
  server.bytesSent = 0;
  const asked = server.requests.length;
  const agent = fork(join(import.meta.dirname, 'cluster_agent.js'), [url, remote], {
    // A young generation that stays small costs little time and saves 50 MB.
    execArgv: ['--max-semi-space-size=2'],
  });
  try {
    const [start] = (await once(agent, 'message')) as [Weight];
    const requests = server.requests.length - asked;
    const listed = server.bytesSent;
    const timer = setInterval(() => crowd.replaceOne(), 1000 / CHURN_PER_SECOND);
    await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
    clearInterval(timer);
    agent.send('weigh');
    const [end] = (await once(agent, 'message')) as [Weight];
    return {
      remote,
      startRssMegabytes: start.rss / MEGABYTE,
      startCpuMillis: start.cpuMillis,
      startHoldCpuMillis: start.holdCpuMillis,
      startRequests: requests,
      startMegabytes: listed / MEGABYTE,
      churnRssMegabytes: end.rss / MEGABYTE,
      churnCpuSecondsPerMinute: ((end.cpuMillis - start.cpuMillis) / 1000 / seconds) * 60,
      churnEventsPerSecond: (end.events - start.events) / seconds,
      churnKilobytesPerSecond: (server.bytesSent - listed) / 1024 / seconds,
    };
  } finally {
    agent.disconnect();
    await once(agent, 'exit');
  }
}

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    seconds: { type: 'string', default: '30' },
  },
});
const crowd = new Crowd();
const url = await crowd.server.start();
crowd.fill();
const results = [];
for (const remote of ['endpointslices', 'pods'] as const)
  results.push(await measure(crowd, url, remote, Number(values.seconds)));
await crowd.server.stop();
if (values.json) console.log(JSON.stringify(results, undefined, 2));
else
  for (const result of results)
    console.log(
      Object.entries(result)
        .map(([key, value]) => `${key} ${typeof value === 'number' ? value.toPrecision(3) : value}`)
        .join('\n  '),
    );
