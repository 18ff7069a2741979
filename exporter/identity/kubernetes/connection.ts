// One way to the API server: address, credentials, requests whose body is read as a stream. Called by reflector.ts and
// pod_lookup.ts. A service account needs nothing but files; a kubeconfig (exec plugins, OIDC, client certificates) is read
// by @kubernetes/client-node, which is imported only then because it costs 70 MB of memory.
import { readFileSync } from 'node:fs';
import { Agent as HttpAgent, request as httpRequest, type IncomingMessage } from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest, type RequestOptions } from 'node:https';
import { isIPv6 } from 'node:net';
import { join } from 'node:path';

const SERVICE_ACCOUNT = '/var/run/secrets/kubernetes.io/serviceaccount';
const USER_AGENT = 'kubenetprobe';
/** A watch on a healthy server brings a bookmark a minute; a list some bytes every second. */
const DEFAULT_IDLE_MILLIS = 90_000;
const CONNECT_MILLIS = 15_000;
const KEEP_ALIVE_MILLIS = 30_000;

/** No way to the API server is configured, or what is configured cannot be read. */
export class ConnectionConfigError extends Error {
  override readonly name = 'ConnectionConfigError';
}

export interface ConnectionOptions {
  /** A kubeconfig file; without it the service account's files and environment. */
  readonly kubeconfig?: string;
  /** Where the service account's `token` and `ca.crt` are. */
  readonly serviceAccountDir?: string;
  /** `KUBERNETES_SERVICE_HOST`, `KUBERNETES_SERVICE_PORT`, `KUBECONFIG`. */
  readonly environment?: Readonly<Record<string, string | undefined>>;
  /** A connection on which nothing arrives for this long is given up. */
  readonly idleMillis?: number;
}

interface Credentials {
  readonly headers: Readonly<Record<string, string>>;
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly rejectUnauthorized?: boolean;
  readonly servername?: string;
}

export interface Connection {
  /** `https://host:port[/path]`, for messages. */
  readonly server: string;
  /**
   * Sends a GET and resolves with the answer's head; the body is read by the caller, who must consume or destroy it.
   * Rejects when no answer comes.
   */
  get(path: string, signal: AbortSignal): Promise<IncomingMessage>;
  close(): void;
}

class StreamConnection implements Connection {
  readonly server: string;
  readonly #base: URL;
  readonly #credentials: () => Promise<Credentials>;
  readonly #idleMillis: number;
  #agent: HttpAgent | undefined;
  #agentKey = '';

  constructor(server: string, credentials: () => Promise<Credentials>, idleMillis: number) {
    this.server = server;
    this.#base = new URL(server);
    this.#credentials = credentials;
    this.#idleMillis = idleMillis;
  }

  async get(path: string, signal: AbortSignal): Promise<IncomingMessage> {
    // Read for every request: tokens and authorities are rotated while the agent runs, and requests are rare.
    const { headers, ...tls } = await this.#credentials();
    const secure = this.#base.protocol === 'https:';
    const options: RequestOptions = {
      protocol: this.#base.protocol,
      hostname: this.#base.hostname.replace(/^\[|\]$/g, ''),
      port: this.#base.port || (secure ? 443 : 80),
      path: `${this.#base.pathname.replace(/\/$/, '')}${path}`,
      headers: { accept: 'application/json', 'user-agent': USER_AGENT, ...headers },
      agent: this.#agentFor(secure, tls),
      signal,
    };
    return new Promise((resolve, reject) => {
      const request = (secure ? httpsRequest : httpRequest)(options, resolve);
      const timer = setTimeout(() => request.destroy(timeout(CONNECT_MILLIS)), CONNECT_MILLIS);
      request.on('socket', (socket) => {
        socket.setKeepAlive(true, KEEP_ALIVE_MILLIS);
        const connected = (): void => clearTimeout(timer);
        if (socket.connecting) socket.once(secure ? 'secureConnect' : 'connect', connected);
        else connected();
      });
      request.setTimeout(this.#idleMillis, () => request.destroy(timeout(this.#idleMillis)));
      request.on('close', () => clearTimeout(timer));
      request.on('error', reject);
      request.end();
    });
  }

  #agentFor(secure: boolean, tls: Omit<Credentials, 'headers'>): HttpAgent {
    const key = JSON.stringify(tls);
    if (this.#agent === undefined || key !== this.#agentKey) {
      this.#agent?.destroy();
      this.#agent = secure ? new HttpsAgent({ keepAlive: true, ...tls }) : new HttpAgent({ keepAlive: true });
      this.#agentKey = key;
    }
    return this.#agent;
  }

  close(): void {
    this.#agent?.destroy();
  }
}

function timeout(millis: number): Error {
  return Object.assign(new Error(`nothing came for ${Math.round(millis / 1000)} s`), { code: 'ETIMEDOUT' });
}

function serviceAccount(options: ConnectionOptions): Connection | undefined {
  const environment = options.environment ?? process.env;
  const host = environment.KUBERNETES_SERVICE_HOST;
  const port = environment.KUBERNETES_SERVICE_PORT ?? '443';
  if (!host) return undefined;
  const directory = options.serviceAccountDir ?? SERVICE_ACCOUNT;
  const file = (name: string): string => {
    try {
      return readFileSync(join(directory, name), 'utf8');
    } catch (error) {
      // Without a code of its own, so that nobody takes it for a failed connection.
      throw new Error(`the service account's ${name} cannot be read: ${(error as Error).message}`);
    }
  };
  try {
    file('token');
  } catch {
    return undefined;
  }
  const credentials = async (): Promise<Credentials> => ({
    headers: { authorization: `Bearer ${file('token').trim()}` },
    ca: file('ca.crt'),
  });
  const server = `https://${isIPv6(host) ? `[${host}]` : host}:${port}`;
  return new StreamConnection(server, credentials, options.idleMillis ?? DEFAULT_IDLE_MILLIS);
}

async function fromKubeconfig(path: string, options: ConnectionOptions): Promise<Connection> {
  const { KubeConfig } = await import('@kubernetes/client-node');
  const config = new KubeConfig();
  try {
    config.loadFromFile(path);
  } catch (error) {
    throw new ConnectionConfigError(`cannot read kubeconfig ${path}: ${(error as Error).message}`);
  }
  const cluster = config.getCurrentCluster();
  if (!cluster) throw new ConnectionConfigError(`kubeconfig ${path} has no current context with a cluster`);
  const credentials = async (): Promise<Credentials> => {
    const found: RequestOptions = { headers: {} };
    await config.applyToHTTPSOptions(found);
    const { headers, ca, cert, key, rejectUnauthorized, servername, auth } = found;
    return {
      headers: {
        ...(headers as Record<string, string>),
        ...(auth && { authorization: `Basic ${Buffer.from(auth).toString('base64')}` }),
      },
      ...(ca && { ca: ca as Buffer }),
      ...(cert && { cert: cert as Buffer }),
      ...(key && { key: key as Buffer }),
      ...(rejectUnauthorized !== undefined && { rejectUnauthorized }),
      ...(servername !== undefined && { servername }),
    };
  };
  return new StreamConnection(cluster.server, credentials, options.idleMillis ?? DEFAULT_IDLE_MILLIS);
}

/**
 * The way to the API server: a kubeconfig that was named, else the service account, else `KUBECONFIG`.
 * @returns undefined when there is none of them
 * @throws ConnectionConfigError
 */
export async function connect(options: ConnectionOptions = {}): Promise<Connection | undefined> {
  if (options.kubeconfig) return fromKubeconfig(options.kubeconfig, options);
  const inCluster = serviceAccount(options);
  if (inCluster !== undefined) return inCluster;
  const path = (options.environment ?? process.env).KUBECONFIG;
  return path ? fromKubeconfig(path, options) : undefined;
}

/** A connection with fixed credentials, for tests and tools. */
export function connectTo(
  server: string,
  headers: Readonly<Record<string, string>>,
  idleMillis?: number,
): Connection {
  return new StreamConnection(server, async () => ({ headers }), idleMillis ?? DEFAULT_IDLE_MILLIS);
}
