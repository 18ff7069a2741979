// Services of a testbed cluster: their objects, their EndpointSlices as the controller keeps them, and the nodes'
// rules as kube-proxy keeps them.
import { isIP } from 'node:net';
import type { KubeObject } from './api-client.ts';
import type { Pod } from './cluster-types.ts';
import type { ControlPlane } from './control-plane.ts';
import type { TestbedNetwork } from './network.ts';
import { endpointSliceObject } from './objects.ts';
import {
  applyProxyRules,
  type ProxyMode,
  type ProxyRulesOptions,
  type ServicePortRules,
} from './proxy-rules.ts';

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
  /** What its EndpointSlices say, to write them only when it changes. */
  written: string | undefined;
  endpoints: string[];
  endpoints6: string[];
}

export class Services {
  readonly #network: TestbedNetwork;
  readonly #controlPlane: ControlPlane;
  readonly #mode: ProxyMode;
  readonly #dualStack: boolean;
  readonly #zone: (node: string) => string | undefined;
  readonly #all = new Map<string, Service>();
  #rules = '';
  #syncing: Promise<void> = Promise.resolve();

  constructor(
    network: TestbedNetwork,
    controlPlane: ControlPlane,
    options: { readonly proxyMode: ProxyMode; readonly dualStack: boolean },
    zone: (node: string) => string | undefined,
  ) {
    this.#network = network;
    this.#controlPlane = controlPlane;
    this.#mode = options.proxyMode;
    this.#dualStack = options.dualStack;
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
        ...(this.#dualStack && {
          ipFamilyPolicy: 'RequireDualStack',
          ipFamilies: ['IPv4', 'IPv6'],
          ...(type === 'Headless' && { clusterIPs: ['None'] }),
        }),
        selector: { app: workload },
        ports: [{ name: 'main', port, targetPort, protocol: 'TCP' }],
      },
    });
    this.#all.set(`${namespace}/${name}`, {
      spec,
      object,
      written: undefined,
      endpoints: [],
      endpoints6: [],
    });
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
      service.endpoints6 = ready.map((pod) => `[${pod.network.address6}]:${targetPort}`);
      const endpoints = (family: 'address' | 'address6') =>
        ready.map((pod) => ({
          address: pod.network[family],
          node: pod.node.name,
          zone: this.#zone(pod.node.name),
          pod: pod.object,
        }));
      const slices = [endpointSliceObject(service.object, endpoints('address'))];
      if (this.#dualStack) slices.push(endpointSliceObject(service.object, endpoints('address6'), 'IPv6'));
      const text = JSON.stringify(slices);
      if (text === service.written) continue;
      for (const slice of slices) await this.#controlPlane.admin.apply(slice);
      service.written = text;
    }
    this.applyRules();
  }

  /** Loads the rules into every node's namespace if they are not those loaded last. */
  applyRules(): void {
    const all = [...this.#all.values()].filter(({ object }) => object.spec.clusterIP !== 'None');
    const { podRange, podRange6, externalRange, externalRange6 } = this.#network;
    const families: ProxyRulesOptions[] = [
      {
        family: 4,
        podRange,
        externalRange,
        services: [...all.map((service) => rulesOf(service, 4)), this.#kubernetes()],
      },
    ];
    if (this.#dualStack)
      families.push({
        family: 6,
        podRange: podRange6,
        externalRange: externalRange6,
        services: all.map((service) => rulesOf(service, 6)),
      });
    const text = JSON.stringify(families);
    if (text === this.#rules) return;
    for (const { netns } of this.#network.nodes.values())
      for (const options of families) applyProxyRules(netns, this.#mode, options);
    this.#rules = text;
  }

  /** The Service `default/kubernetes`, which the API server itself maintains: pods reach it there. */
  #kubernetes(): ServicePortRules {
    const { hostname, port } = new URL(this.#controlPlane.url);
    const clusterIp = this.#network.serviceRange.replace(/0\/17$/, '1');
    return { name: 'default/kubernetes:https', clusterIp, port: 443, endpoints: [`${hostname}:${port}`] };
  }
}

function rulesOf({ spec, object, endpoints, endpoints6 }: Service, family: 4 | 6): ServicePortRules {
  const nodePort = object.spec.ports[0].nodePort as number | undefined;
  return {
    name: `${spec.namespace}/${spec.name}:main`,
    clusterIp: family === 4 ? object.spec.clusterIP : object.spec.clusterIPs[1],
    port: spec.port,
    ...(nodePort && { nodePort }),
    externalIps: (spec.externalIps ?? []).filter((address) => isIP(address) === family),
    endpoints: family === 4 ? endpoints : endpoints6,
  };
}
