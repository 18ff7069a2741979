// Asks the API server about single pods of other nodes: which controller a pod of an EndpointSlice has, and who has an
// address that no watch told of. One answer serves all pods of a ReplicaSet, so this is a few requests per neighbour and
// none per pod; a token bucket bounds it. Called by kubernetes_identity.ts.
import type { IncomingMessage } from 'node:http';
import type { Connection } from './connection.ts';
import { type Pod, projectPod } from './objects.ts';
import { ApiFailure, failure } from './reflector.ts';

/** Per second, in the long run; a cluster of 1,000 agents makes 5,000 cached reads a second at worst. */
const RATE = 5;
const BURST = 20;
const MAX_ENTRIES = 8192;
const MAX_QUEUE = 1024;
const MAX_BODY_BYTES = 16 << 20;
/** Addresses move and no watch tells, so what was learned of one is asked anew after this. */
const ADDRESS_MILLIS = 60_000;
const ABSENT_MILLIS = 30_000;
/** After the server refused. */
const REFUSED_MILLIS = 300_000;
const FAILED_MILLIS = 5_000;

export type LookupResult =
  | { readonly state: 'pending' }
  /** The server says that there is none. */
  | { readonly state: 'absent'; readonly at: number }
  | { readonly state: 'found'; readonly pod: Pod; readonly at: number }
  /** Not allowed to ask. */
  | { readonly state: 'refused' };

interface Entry {
  result: LookupResult;
  /** When to ask again. */
  expires: number;
  queued: boolean;
}

export interface PodLookupOptions {
  readonly connection: Connection;
  /** A result came in. */
  readonly onResult: (pod: Pod | undefined) => void;
  readonly onProblem: (problem: string | undefined) => void;
  readonly now?: () => number;
  readonly ratePerSecond?: number;
}

interface Question {
  readonly key: string;
  readonly path: string;
  /** Pods of one controller: while one of them is asked for, the others wait for that answer. */
  readonly group: string;
  /** Pods found by name must be this one. */
  readonly uid: string;
  readonly lifetime: number;
}

const PENDING: LookupResult = { state: 'pending' };

export class PodLookup {
  /** Requests sent so far. */
  requests = 0;
  readonly #options: PodLookupOptions;
  readonly #now: () => number;
  readonly #entries = new Map<string, Entry>();
  readonly #queue: Question[] = [];
  readonly #groups = new Set<string>();
  readonly #abort = new AbortController();
  #running: Promise<void> | undefined;
  #refusedUntil = Number.NEGATIVE_INFINITY;
  #tokens = BURST;
  #refilled: number;

  constructor(options: PodLookupOptions) {
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#refilled = performance.now();
  }

  /** The pod of that name and uid. */
  byName(namespace: string, name: string, uid: string): LookupResult {
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
    const group = `${namespace}/${name.slice(0, name.lastIndexOf('-'))}`;
    return this.#ask({ key: uid, path, group, uid, lifetime: Number.POSITIVE_INFINITY });
  }

  /** The pod that has a canonical address now. */
  byAddress(address: string): LookupResult {
    const selector = encodeURIComponent(`status.podIP=${address}`);
    // From the server's cache: etcd is not asked.
    const path = `/api/v1/pods?resourceVersion=0&limit=10&fieldSelector=${selector}`;
    return this.#ask({ key: address, path, group: address, uid: '', lifetime: ADDRESS_MILLIS });
  }

  #ask(question: Question): LookupResult {
    const now = this.#now();
    let entry = this.#entries.get(question.key);
    if (entry !== undefined && (entry.queued || now < entry.expires)) return entry.result;
    if (now < this.#refusedUntil) return { state: 'refused' };
    if (this.#groups.has(question.group) || this.#queue.length >= MAX_QUEUE) return entry?.result ?? PENDING;
    if (entry === undefined) {
      if (this.#entries.size >= MAX_ENTRIES) this.#evict();
      entry = { result: PENDING, expires: 0, queued: true };
      this.#entries.set(question.key, entry);
    }
    entry.queued = true;
    this.#groups.add(question.group);
    this.#queue.push(question);
    this.#running ??= this.#run();
    return entry.result;
  }

  #evict(): void {
    for (const [key, entry] of this.#entries) {
      if (entry.queued) continue;
      this.#entries.delete(key);
      return;
    }
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  async #run(): Promise<void> {
    const { signal } = this.#abort;
    // Not in the caller's turn: naming stays free of I/O.
    await new Promise(setImmediate);
    for (let question = this.#queue.shift(); question !== undefined; question = this.#queue.shift()) {
      if (signal.aborted) break;
      await this.#token();
      await this.#answer(question);
    }
    this.#running = undefined;
  }

  async #token(): Promise<void> {
    const rate = this.#options.ratePerSecond ?? RATE;
    const now = performance.now();
    this.#tokens = Math.min(BURST, this.#tokens + ((now - this.#refilled) / 1000) * rate);
    this.#refilled = now;
    if (this.#tokens < 1)
      await new Promise((resolve) => setTimeout(resolve, ((1 - this.#tokens) / rate) * 1000));
    this.#tokens -= 1;
  }

  async #answer(question: Question): Promise<void> {
    const entry = this.#entries.get(question.key) as Entry;
    const before = entry.result;
    let pod: Pod | undefined;
    try {
      pod = await this.#fetch(question);
      const at = this.#now();
      entry.result = pod === undefined ? { state: 'absent', at } : { state: 'found', pod, at };
      entry.expires = at + (pod === undefined ? ABSENT_MILLIS : question.lifetime);
      this.#options.onProblem(undefined);
    } catch (error) {
      entry.expires = this.#now() + FAILED_MILLIS;
      if (error instanceof ApiFailure && error.status === 403) this.#refused(entry);
    } finally {
      entry.queued = false;
      this.#groups.delete(question.group);
    }
    const known = before.state === 'found' ? before.pod : undefined;
    if (before.state !== entry.result.state || pod?.uid !== known?.uid) this.#options.onResult(pod);
  }

  #refused(entry: Entry): void {
    this.#refusedUntil = this.#now() + REFUSED_MILLIS;
    entry.result = { state: 'refused' };
    this.#options.onProblem(
      "not allowed to get pods (403): grant the verbs get and list on pods in the agent's ClusterRole; pods of other nodes are named by their Service only",
    );
  }

  async #fetch({ path, uid }: Question): Promise<Pod | undefined> {
    this.requests++;
    const response = await this.#options.connection.get(path, this.#abort.signal);
    if (response.statusCode === 404) {
      response.resume();
      return undefined;
    }
    if (response.statusCode !== 200) return failure(response);
    const body = await readJson(response);
    const items = (body as { items?: unknown }).items;
    const pods = (Array.isArray(items) ? items : items === undefined ? [body] : []).map(projectPod);
    if (uid !== '') return pods.find((pod) => pod?.uid === uid);
    return pods.find((pod) => pod !== undefined && !pod.hostNetwork && pod.addresses.length > 0);
  }
}

async function readJson(response: IncomingMessage): Promise<object> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of response) {
      bytes += (chunk as Buffer).length;
      if (bytes > MAX_BODY_BYTES) throw new Error('answer too large');
      chunks.push(chunk as Buffer);
    }
  } finally {
    response.destroy();
  }
  const value: unknown = JSON.parse(Buffer.concat(chunks).toString('utf8'));
  if (typeof value !== 'object' || value === null) throw new Error('not an object');
  return value;
}
