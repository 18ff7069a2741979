// A small Kubernetes API client for tests: one JSON request at a time over kept connections, no generated models.
// Deliberately not the client that the agent uses, so that a test does not check the agent's library against itself.
import { Agent, request } from 'node:https';

export interface KubeObject {
  apiVersion: string;
  kind: string;
  metadata: {
    name: string;
    namespace?: string;
    uid?: string;
    resourceVersion?: string;
    labels?: Record<string, string>;
    annotations?: Record<string, string>;
    ownerReferences?: OwnerReference[];
    [field: string]: unknown;
  };
  // biome-ignore lint/suspicious/noExplicitAny: objects of every kind; tests read deep fields of them
  [field: string]: any;
}

export interface OwnerReference {
  apiVersion: string;
  kind: string;
  name: string;
  uid: string;
  controller?: boolean;
}

export interface ApiResponse {
  readonly status: number;
  /** The decoded body; a Status object for errors; a string where the server answers plain text. */
  // biome-ignore lint/suspicious/noExplicitAny: see KubeObject
  readonly body: any;
}

/** An answer other than 2xx. */
export class ApiError extends Error {
  readonly status: number;
  readonly reason: string;
  constructor(what: string, response: ApiResponse) {
    const message = response.body?.message ?? String(response.body).slice(0, 300);
    super(`${what}: ${response.status} ${message}`);
    this.name = 'ApiError';
    this.status = response.status;
    this.reason = response.body?.reason ?? '';
  }
}

// Plurals that are not the kind in lower case with an s.
const IRREGULAR: Record<string, string> = {
  NetworkPolicy: 'networkpolicies',
  PriorityClass: 'priorityclasses',
  SecurityContextConstraints: 'securitycontextconstraints',
};
const CLUSTER_SCOPED = new Set([
  'ClusterRole',
  'ClusterRoleBinding',
  'CustomResourceDefinition',
  'Namespace',
  'Node',
  'PriorityClass',
  'SecurityContextConstraints',
]);

export class ApiClient {
  readonly #url: URL;
  readonly #token: string;
  readonly #agent: Agent;

  constructor(options: { url: string; ca: string; token: string }) {
    this.#url = new URL(options.url);
    this.#token = options.token;
    this.#agent = new Agent({ ca: options.ca, keepAlive: true, maxSockets: 8 });
  }

  /** Any request; answers of every status come back. */
  raw(method: string, path: string, body?: unknown, contentType = 'application/json'): Promise<ApiResponse> {
    return new Promise((resolve, reject) => {
      const payload = body === undefined ? undefined : JSON.stringify(body);
      const headers: Record<string, string> = {
        authorization: `Bearer ${this.#token}`,
        accept: 'application/json',
      };
      if (payload !== undefined) headers['content-type'] = contentType;
      const sent = request(new URL(path, this.#url), { method, headers, agent: this.#agent }, (response) => {
        const chunks: Buffer[] = [];
        response.on('data', (chunk) => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          const text = Buffer.concat(chunks).toString();
          const isJson = response.headers['content-type']?.startsWith('application/json');
          resolve({ status: response.statusCode ?? 0, body: isJson ? JSON.parse(text) : text });
        });
      });
      sent.on('error', reject);
      sent.end(payload);
    });
  }

  // biome-ignore lint/suspicious/noExplicitAny: see KubeObject
  async #ok(method: string, path: string, body?: unknown, contentType?: string): Promise<any> {
    const response = await this.raw(method, path, body, contentType);
    if (response.status < 200 || response.status > 299) throw new ApiError(`${method} ${path}`, response);
    return response.body;
  }

  get(path: string): Promise<KubeObject> {
    return this.#ok('GET', path);
  }

  async list(path: string): Promise<KubeObject[]> {
    return (await this.#ok('GET', path)).items;
  }

  create(object: KubeObject): Promise<KubeObject> {
    return this.#ok('POST', collectionPath(object), object);
  }

  /** Replaces the object; without a resourceVersion whatever is there. */
  replace(object: KubeObject): Promise<KubeObject> {
    return this.#ok('PUT', objectPath(object), object);
  }

  /** Server-side apply: the API server validates every field, unknown ones included. */
  apply(object: KubeObject, options: { dryRun?: boolean } = {}): Promise<KubeObject> {
    const query = `fieldManager=testbed&force=true&fieldValidation=Strict${options.dryRun ? '&dryRun=All' : ''}`;
    // JSON is YAML.
    return this.#ok('PATCH', `${objectPath(object)}?${query}`, object, 'application/apply-patch+yaml');
  }

  /** As kubelet and controllers do it: a merge patch of the status alone. */
  patchStatus(object: KubeObject, status: unknown): Promise<KubeObject> {
    return this.#ok('PATCH', `${objectPath(object)}/status`, { status }, 'application/merge-patch+json');
  }

  /** A merge patch of the object, or of a subresource of it. */
  patch(object: KubeObject, patch: unknown, subresource?: string): Promise<KubeObject> {
    const path = subresource ? `${objectPath(object)}/${subresource}` : objectPath(object);
    return this.#ok('PATCH', path, patch, 'application/merge-patch+json');
  }

  /** Deletes at once, with no grace period; an object that is gone already is fine. */
  async delete(object: KubeObject): Promise<void> {
    const response = await this.raw('DELETE', `${objectPath(object)}?gracePeriodSeconds=0`);
    if (response.status >= 300 && response.status !== 404)
      throw new ApiError(`DELETE ${objectPath(object)}`, response);
  }

  close(): void {
    this.#agent.destroy();
  }
}

/** Path of the collection that an object belongs to. */
export function collectionPath(object: KubeObject): string {
  const { apiVersion, kind, metadata } = object;
  const group = apiVersion.includes('/') ? `/apis/${apiVersion}` : `/api/${apiVersion}`;
  const namespace = CLUSTER_SCOPED.has(kind) ? '' : `/namespaces/${metadata.namespace ?? 'default'}`;
  return `${group}${namespace}/${IRREGULAR[kind] ?? `${kind.toLowerCase()}s`}`;
}

export function objectPath(object: KubeObject): string {
  return `${collectionPath(object)}/${object.metadata.name}`;
}
