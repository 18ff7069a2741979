// Services of a testbed cluster: their objects, their EndpointSlices as the controller keeps them, and the nodes'
// rules as kube-proxy keeps them.
import type { KubeObject } from './api-client.ts';
import type { Pod } from './cluster-types.ts';
import type { ControlPlane } from './control-plane.ts';
import type { TestbedNetwork } from './network.ts';
import { endpointSliceObject } from './objects.ts';
import { applyProxyRules, type ProxyMode, type ServicePortRules } from './proxy-rules.ts';

export interface ServiceSpec {
  readonly namespace: string;
  readonly name: string;
  /** Name of the workload whose pods it selects, in the same namespace. */
  readonly workload: string;
  readonly type?: 'ClusterIP' | 'NodePort' | 'Headless';
  readonly port: number;
  readonly targetPort: number;
  readonly externalIps?: readonly string[] | undefined;
}

interface Service {
  readonly spec: ServiceSpec;
  readonly object: KubeObject;
  /** Addresses in its EndpointSlice, to write it only when they change. */
  written: string | undefined;
  endpoints: string[];
}

export class Services {
  readonly #network: TestbedNetwork;
  readonly #controlPlane: ControlPlane;
  readonly #mode: ProxyMode;
  readonly #zone: (node: string) => string | undefined;
  readonly #all = new Map<string, Service>();
  #rules = '';
  #syncing: Promise<void> = Promise.resolve();

  constructor(
    network: TestbedNetwork,
    controlPlane: ControlPlane,
    mode: ProxyMode,
    zone: (node: string) => string | undefined,
  ) {
    this.#network = network;
    this.#controlPlane = controlPlane;
    this.#mode = mode;
    this.#zone = zone;
  }

  async create(spec: ServiceSpec): Promise<void> {
    const { namespace, name, workload, type = 'ClusterIP', port, targetPort, externalIps } = spec;
    const object = await this.#controlPlane.admin.create({
      apiVersion: 'v1',
      kind: 'Service',
      metadata: { name, namespace },
      spec: {
        type: type === 'Headless' ? 'ClusterIP' : type,
        ...(type === 'Headless' && { clusterIP: 'None' }),
        ...(externalIps && { externalIPs: externalIps }),
        selector: { app: workload },
        ports: [{ name: 'main', port, targetPort, protocol: 'TCP' }],
      },
    });
    this.#all.set(`${namespace}/${name}`, { spec, object, written: undefined, endpoints: [] });
  }

  #find(id: string): Service {
    const service = this.#all.get(id);
    if (!service) throw new Error(`no Service ${id}`);
    return service;
  }

  /** The object as the API server answered it: with its cluster address and node port. */
  object(id: string): KubeObject {
    return this.#find(id).object;
  }

  /** Endpoints, `address:port`: what a headless Service's name resolves to. */
  endpoints(id: string): string[] {
    return this.#find(id).endpoints;
  }

  /** Brings EndpointSlices and rules up to date with the pods that are announced. One at a time. */
  sync(pods: readonly Pod[]): Promise<void> {
    this.#syncing = this.#syncing.then(() => this.#sync(pods));
    return this.#syncing;
  }

  async #sync(pods: readonly Pod[]): Promise<void> {
    for (const service of this.#all.values()) {
      const { namespace, workload, targetPort } = service.spec;
      const ready = pods.filter((pod) => pod.announced && pod.workload.id === `${namespace}/${workload}`);
      service.endpoints = ready.map((pod) => `${pod.network.address}:${targetPort}`);
      const endpoints = ready.map((pod) => ({
        address: pod.network.address,
        node: pod.node.name,
        zone: this.#zone(pod.node.name),
        pod: pod.object,
      }));
      const slice = endpointSliceObject(service.object, endpoints);
      const text = JSON.stringify(slice);
      if (text === service.written) continue;
      await this.#controlPlane.admin.apply(slice);
      service.written = text;
    }
    this.applyRules();
  }

  /** Loads the rules into every node's namespace if they are not those loaded last. */
  applyRules(): void {
    const services = [...this.#all.values()]
      .filter(({ object }) => object.spec.clusterIP !== 'None')
      .map(rulesOf)
      .concat(this.#kubernetes());
    const text = JSON.stringify(services);
    if (text === this.#rules) return;
    const { podRange, externalRange } = this.#network;
    for (const { netns } of this.#network.nodes.values()) {
      applyProxyRules(netns, this.#mode, { podRange, externalRange, services });
    }
    this.#rules = text;
  }

  /** The Service `default/kubernetes`, which the API server itself maintains: pods reach it there. */
  #kubernetes(): ServicePortRules {
    const { hostname, port } = new URL(this.#controlPlane.url);
    const clusterIp = this.#network.serviceRange.replace(/0\/17$/, '1');
    return { name: 'default/kubernetes:https', clusterIp, port: 443, endpoints: [`${hostname}:${port}`] };
  }
}

function rulesOf({ spec, object, endpoints }: Service): ServicePortRules {
  const nodePort = object.spec.ports[0].nodePort as number | undefined;
  return {
    name: `${spec.namespace}/${spec.name}:main`,
    clusterIp: object.spec.clusterIP,
    port: spec.port,
    ...(nodePort && { nodePort }),
    ...(spec.externalIps && { externalIps: spec.externalIps }),
    endpoints,
  };
}
