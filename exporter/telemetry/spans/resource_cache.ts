// One shared OpenTelemetry `Resource` object per workload: the exporter groups spans by object identity.
// Used by the synthesiser.

import type { Attributes } from '@opentelemetry/api';
import { type Resource, resourceFromAttributes } from '@opentelemetry/resources';
import { cleanText } from './text.ts';
import type { SpanWorkload } from './types.ts';

const NAME_LIMIT = 253;

const KUBERNETES_NAME: Readonly<Record<string, string>> = {
  Deployment: 'k8s.deployment.name',
  StatefulSet: 'k8s.statefulset.name',
  DaemonSet: 'k8s.daemonset.name',
  ReplicaSet: 'k8s.replicaset.name',
  Job: 'k8s.job.name',
  CronJob: 'k8s.cronjob.name',
  Pod: 'k8s.pod.name',
};

/** What is the same for every workload of this agent. */
export interface ResourceOptions {
  /** Name of the host or Kubernetes node. */
  readonly host: string;
  readonly agentVersion: string;
  /** Further attributes of the user's choice, e.g. `deployment.environment.name`. */
  readonly attributes?: Readonly<Record<string, string>> | undefined;
  /** Resources kept; beyond it the one unused for longest goes (and is built again when needed). Default 4096. */
  readonly capacity?: number | undefined;
}

/** Resource attributes by semantic conventions: service.*, k8s.*, host.name, cloud.availability_zone. */
export function resourceAttributes(workload: SpanWorkload, options: ResourceOptions): Attributes {
  const name = cleanText(workload.name, NAME_LIMIT) || 'unknown_service';
  const namespace = cleanText(workload.namespace, NAME_LIMIT);
  const pod = workload.pod === undefined ? '' : cleanText(workload.pod, NAME_LIMIT);
  const attributes: Attributes = { ...options.attributes, 'service.name': name };
  if (namespace !== '') attributes['service.namespace'] = namespace;
  // A pod is one instance; without it, what is known is "this workload on this host".
  attributes['service.instance.id'] =
    pod !== '' && namespace !== ''
      ? `${namespace}.${pod}`
      : [options.host, namespace, name].filter(Boolean).join('.');
  attributes['host.name'] = options.host;
  if (workload.zone !== undefined && workload.zone !== '')
    attributes['cloud.availability_zone'] = cleanText(workload.zone, NAME_LIMIT);

  if (namespace !== '') {
    attributes['k8s.namespace.name'] = namespace;
    attributes['k8s.node.name'] = options.host;
    const key = Object.hasOwn(KUBERNETES_NAME, workload.kind) ? KUBERNETES_NAME[workload.kind] : undefined;
    if (key !== undefined) attributes[key] = name;
    if (pod !== '') attributes['k8s.pod.name'] = pod;
  } else if (workload.kind === 'Node') attributes['k8s.node.name'] = name;
  else if (workload.kind === 'Container') attributes['container.name'] = name;

  attributes['knp.workload.kind'] = cleanText(workload.kind, NAME_LIMIT);
  attributes['telemetry.distro.name'] = 'kubenetprobe';
  attributes['telemetry.distro.version'] = options.agentVersion;
  return attributes;
}

/** Bounded map from workload to its Resource, least recently used out first. */
export class ResourceCache {
  readonly #options: ResourceOptions;
  readonly #capacity: number;
  readonly #resources = new Map<string, Resource>();

  constructor(options: ResourceOptions) {
    this.#options = options;
    this.#capacity = options.capacity ?? 4096;
  }

  get size(): number {
    return this.#resources.size;
  }

  get(workload: SpanWorkload): Resource {
    const key = `${workload.namespace}\0${workload.kind}\0${workload.name}\0${workload.pod ?? ''}\0${workload.zone ?? ''}`;
    let resource = this.#resources.get(key);
    if (resource === undefined) {
      resource = resourceFromAttributes(resourceAttributes(workload, this.#options));
      if (this.#resources.size >= this.#capacity) {
        const oldest = this.#resources.keys().next();
        if (!oldest.done) this.#resources.delete(oldest.value);
      }
    } else this.#resources.delete(key);
    this.#resources.set(key, resource);
    return resource;
  }
}
