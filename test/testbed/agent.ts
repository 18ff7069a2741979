// The agent as a pod of a testbed cluster: what the chart renders is applied to the API server, and a pod of its
// DaemonSet is run as kubelet would: in the node's network and a container's cgroup, with exactly the capabilities,
// environment, configuration and service account token of the manifest, and nothing writable.
import { mkdirSync, renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import type { KubeObject } from './api-client.ts';
import type { Cluster } from './cluster.ts';
import { type RunningProcess, startProcess, waitUntilReady } from './processes.ts';

export interface AgentOptions {
  /** Objects that the chart rendered, DaemonSet included. */
  readonly objects: readonly KubeObject[];
  readonly node: string;
  /** Start script of the agent. */
  readonly command: string;
  /** Capabilities other than the manifest's, such as `BPF`. */
  readonly capabilities?: readonly string[];
  /** Where the agent finds the API server, such as a fault proxy; the Service `kubernetes` by default. */
  readonly apiServer?: string;
  /** Seconds until the service account's token expires. */
  readonly tokenSeconds?: number;
  /** Further variables. */
  readonly env?: Readonly<Record<string, string>>;
}

export interface RunningAgent {
  /** `http://address:port` */
  readonly url: string;
  readonly pod: KubeObject;
  readonly process: RunningProcess;
  /** The text of /metrics; throws unless the answer is 200. */
  metrics(): Promise<string>;
  /** Puts a new token in place, as kubelet does before the old one expires. */
  rotateToken(seconds?: number): Promise<void>;
  stop(signal?: NodeJS.Signals): Promise<void>;
}

// Runs in a mount namespace of its own. $1: the directory that stands for the service account's volume.
const MOUNTS = `set -e
mount -t tmpfs -o size=64k tmpfs /run
mkdir -p /run/secrets/kubernetes.io/serviceaccount
mount --bind "$1" /run/secrets/kubernetes.io/serviceaccount
mount -o remount,bind,ro /run/secrets/kubernetes.io/serviceaccount
mount -o remount,bind,ro /
shift
exec "$@"`;

/** Applies the chart's objects, but for its pods. */
export async function applyChart(cluster: Cluster, objects: readonly KubeObject[]): Promise<void> {
  const { admin } = cluster.controlPlane;
  for (const object of objects)
    await cluster.controlPlane.createNamespace(object.metadata.namespace ?? 'default');
  for (const object of objects) await admin.apply(object);
}

let count = 0;

/** Starts the agent on a node and waits until it says that it is ready. `applyChart` comes first. */
export async function startAgent(cluster: Cluster, options: AgentOptions): Promise<RunningAgent> {
  const { admin } = cluster.controlPlane;
  const node = cluster.network.nodes.get(options.node);
  const wanted = options.objects.find(({ kind }) => kind === 'DaemonSet');
  const configuration = options.objects.find(({ kind }) => kind === 'ConfigMap');
  if (!node || !wanted || !configuration) throw new Error('no such node, or no DaemonSet or ConfigMap');
  const { namespace = 'default', name } = wanted.metadata;
  const daemonSet = await admin.get(`/apis/apps/v1/namespaces/${namespace}/daemonsets/${name}`);
  const directory = join(cluster.slot.directory, `agent-${++count}`);
  const files = await writeFiles(cluster, daemonSet, configuration, directory, options);
  const { template } = daemonSet.spec;
  const [container] = template.spec.containers;
  const pod = await cluster.kubelet.createForeignPod(daemonSet, template, node);
  const added: string[] = options.capabilities ?? container.securityContext.capabilities.add;
  const bounding = ['-all', ...added.map((capability: string) => `+${capability.toLowerCase()}`)].join(',');
  const process = startProcess(cluster.slot, {
    name: `agent-${count}`,
    netns: node.netns,
    cgroups: pod.cgroups,
    command: 'unshare',
    // biome-ignore format: one step of the way a line
    args: [
      '--mount', '--cgroup', '--propagation', 'private',
      '/bin/sh', '-c', MOUNTS, 'sh', files.serviceAccount,
      'setpriv', `--bounding-set=${bounding}`, '--inh-caps=-all', '--no-new-privs',
      options.command, ...(container.args ?? []),
    ],
    env: { ...environment(container, options, cluster), KNP_CONFIG: files.configuration, ...options.env },
  });
  const url = `http://${node.address}:${container.ports[0].containerPort}`;
  await waitUntilReady(process, async () => (await fetch(`${url}/readyz`)).ok);
  await pod.announce();
  return {
    url,
    pod: pod.object,
    process,
    metrics: async () => {
      const answer = await fetch(`${url}/metrics`);
      const text = await answer.text();
      if (!answer.ok) throw new Error(`/metrics answered ${answer.status}: ${text.slice(0, 200)}`);
      return text;
    },
    rotateToken: (seconds) => files.rotate(seconds),
    stop: async (signal) => {
      await process.stop(signal);
      await admin.delete(pod.object);
    },
  };
}

interface Files {
  readonly serviceAccount: string;
  readonly configuration: string;
  rotate(seconds?: number): Promise<void>;
}

async function writeFiles(
  cluster: Cluster,
  daemonSet: KubeObject,
  configuration: KubeObject,
  directory: string,
  options: AgentOptions,
): Promise<Files> {
  const { namespace = 'default' } = daemonSet.metadata;
  const { serviceAccountName } = daemonSet.spec.template.spec;
  const serviceAccount = join(directory, 'serviceaccount');
  mkdirSync(serviceAccount, { recursive: true });
  const files: Files = {
    serviceAccount,
    configuration: join(directory, 'config.yaml'),
    rotate: async (expiresInSeconds = 3600) => {
      const token = await cluster.controlPlane.tokenFor(serviceAccountName, { namespace, expiresInSeconds });
      // A reader must see the old one or the new one.
      writeFileSync(join(serviceAccount, '.token'), token);
      renameSync(join(serviceAccount, '.token'), join(serviceAccount, 'token'));
    },
  };
  writeFileSync(join(serviceAccount, 'ca.crt'), cluster.controlPlane.ca);
  writeFileSync(join(serviceAccount, 'namespace'), namespace);
  writeFileSync(files.configuration, configuration.data['config.yaml']);
  await files.rotate(options.tokenSeconds);
  return files;
}

interface EnvVar {
  readonly name: string;
  readonly value?: string;
  readonly valueFrom?: { readonly fieldRef?: { readonly fieldPath: string } };
}

/** The container's variables and those that kubelet adds. */
function environment(
  container: { readonly env?: readonly EnvVar[] },
  options: AgentOptions,
  cluster: Cluster,
): Record<string, string> {
  const fields: Record<string, string> = { 'spec.nodeName': options.node };
  const own = (container.env ?? []).map(({ name, value, valueFrom }) => {
    const resolved = value ?? fields[valueFrom?.fieldRef?.fieldPath ?? ''];
    if (resolved === undefined) throw new Error(`the testbed cannot resolve variable ${name}`);
    return [name, resolved];
  });
  const server = new URL(options.apiServer ?? `https://${cluster.network.prefix}.128.1:443`);
  return {
    ...Object.fromEntries(own),
    KUBERNETES_SERVICE_HOST: server.hostname,
    KUBERNETES_SERVICE_PORT: server.port || '443',
  };
}
