// The agent's part of cluster.ts: names only, nothing else of the agent, as built. Plain JavaScript, because Node's
// reader of TypeScript alone would weigh 30 MB. Usage: cluster_agent.js URL endpointslices|pods
import { HostIdentity } from '../../dist/identity/host.js';
import { connectTo } from '../../dist/identity/kubernetes/connection.js';
import { KubernetesIdentity } from '../../dist/identity/kubernetes/kubernetes_identity.js';

const [url, remote] = process.argv.slice(2);
const identity = new KubernetesIdentity({
  host: new HostIdentity({ nodeName: 'node-1' }),
  connection: connectTo(url, {}),
  nodeName: 'node-1',
  remote,
});

let hold = 0;
let before = process.threadCpuUsage();
const timer = setInterval(() => {
  const { user, system } = process.threadCpuUsage(before);
  before = process.threadCpuUsage();
  hold = Math.max(hold, (user + system) / 1000);
}, 5);

function weigh() {
  const { user, system } = process.cpuUsage();
  const { events } = identity.stats().counters;
  process.send({
    rss: process.memoryUsage.rss(),
    cpuMillis: (user + system) / 1000,
    holdCpuMillis: hold,
    events,
  });
}

process.on('message', weigh);
process.on('disconnect', () => process.exit());
await identity.start();
while (!identity.synced) await new Promise((resolve) => setTimeout(resolve, 5));
// Its own CPU time would count in what follows.
clearInterval(timer);
weigh();
