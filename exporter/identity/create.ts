// Chooses the identity for this machine: a Kubernetes node's, or a plain host's. Called once by the CLI's `run`.
import { hostname } from 'node:os';
import type { Config } from '../config/schema.ts';
import { HostIdentity, type HostIdentityOptions } from './host.ts';
import type { CgroupMode, Identity } from './types.ts';

export interface CreateIdentityOptions {
  readonly config: Pick<Config, 'identity' | 'kubernetes'>;
  readonly log?: { readonly warn: (message: string) => void; readonly info: (message: string) => void };
  /** Who listens on a port of this host, where a probe knows. */
  readonly listener?: HostIdentityOptions['listener'];
  /** Own addresses; default: those of the network namespace that the agent runs in. */
  readonly addresses?: HostIdentityOptions['addresses'];
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** Where the service account's files are, when not at the usual place. */
  readonly serviceAccountDir?: string;
}

/** An identity that also tells the loader which cgroup hierarchy the kernel side has to read. */
export type HostedIdentity = Identity & { readonly cgroupMode: CgroupMode };

/**
 * Makes the identity and, on a cluster's node, the way to the API server; nothing is sent before `start`.
 * @throws when a configured range or kubeconfig is wrong, or Kubernetes is demanded and there is no way to an API server
 */
export async function createIdentity(options: CreateIdentityOptions): Promise<HostedIdentity> {
  const { identity, kubernetes } = options.config;
  const nodeName = kubernetes.node_name || hostname();
  const host = new HostIdentity({
    nodeName,
    ranges: identity.ranges,
    proc: identity.proc_path,
    root: identity.root_path,
    ...(options.listener && { listener: options.listener }),
    ...(options.addresses && { addresses: options.addresses }),
  });
  if (kubernetes.enabled === false) return host;
  // Imported only where there may be a cluster.
  const { connect, ConnectionConfigError } = await import('./kubernetes/connection.ts');
  const connection = await connect({
    kubeconfig: kubernetes.kubeconfig,
    ...(options.environment && { environment: options.environment }),
    ...(options.serviceAccountDir && { serviceAccountDir: options.serviceAccountDir }),
  });
  if (connection === undefined) {
    if (kubernetes.enabled === 'auto') return host;
    throw new ConnectionConfigError(
      'kubernetes.enabled is true, but there is neither a service account nor a kubeconfig: set kubernetes.kubeconfig',
    );
  }
  const { KubernetesIdentity } = await import('./kubernetes/kubernetes_identity.ts');
  return new KubernetesIdentity({
    host,
    connection,
    nodeName,
    remote: kubernetes.remote,
    ...(options.log && { log: options.log }),
  });
}
