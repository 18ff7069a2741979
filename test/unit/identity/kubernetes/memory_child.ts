// A process that does nothing but name a cluster: its memory is what identity costs. Started by memory.test.ts.
import { HostIdentity } from '../../../../exporter/identity/host.ts';
import { connectTo } from '../../../../exporter/identity/kubernetes/connection.ts';
import { KubernetesIdentity } from '../../../../exporter/identity/kubernetes/kubernetes_identity.ts';

const [url = '', remote = 'pods', churnEvents = '0'] = process.argv.slice(2);
const identity = new KubernetesIdentity({
  host: new HostIdentity({ cgroup: { mode: 'v2', layout: 'v2' }, nodeName: 'node-1' }),
  connection: connectTo(url, {}),
  nodeName: 'node-1',
  remote: remote as 'pods' | 'endpointslices',
});
const bare = process.memoryUsage.rss();
await identity.start();
let peak = 0;
let held = 0;
let before = performance.now();
const report = (): void => {
  const rss = process.memoryUsage.rss();
  peak = Math.max(peak, rss);
  const now = performance.now();
  held = Math.max(held, now - before - 10);
  before = now;
  const { counters, known } = identity.stats();
  if (!identity.synced || (counters.events ?? 0) < Number(churnEvents)) return;
  clearInterval(timer);
  const cpu = process.cpuUsage();
  process.send?.({ bare, rss, peak, held, known, counters, cpuMillis: (cpu.user + cpu.system) / 1000 });
};
const timer = setInterval(report, 10);
process.on('disconnect', () => process.exit());
