// A real Kubernetes control plane without a cluster: etcd and kube-apiserver as two processes, RBAC on.
// Tests and the scenario runner start it; there are no controllers and no kubelet, so whoever needs what those
// write (service accounts, statuses, EndpointSlices) writes it through the admin client.
import { execFileSync } from 'node:child_process';
import { createSign, generateKeyPairSync, randomBytes } from 'node:crypto';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { ApiClient, type KubeObject } from './api-client.ts';
import { buildProgram, cannotBuild } from './build.ts';
import { type Slot, takeSlot } from './leftovers.ts';
import { type RunningProcess, startProcess, waitUntilReady } from './processes.ts';

export interface ControlPlaneOptions {
  /** A slot that exists already; the caller then releases it. */
  readonly slot?: Slot;
  /** Address to listen on; 127.0.0.1 by default. */
  readonly address?: string;
  /** Service addresses; 10.(64+slot).128.0/17 by default. */
  readonly serviceRange?: string;
  /** Further flags of kube-apiserver, such as `--min-request-timeout=5`. */
  readonly apiServerFlags?: readonly string[];
}

export interface TokenOptions {
  readonly namespace?: string;
  /**
   * Lifetime. Below 600 s, the API's minimum, the token is signed here with the server's own key. The server knows
   * a token for up to 10 s longer once it has seen it.
   */
  readonly expiresInSeconds?: number;
}

export interface StoredObject {
  /** Below etcd's `/registry/`, such as `pods/<namespace>/<name>` or `minions/<name>`. */
  readonly key: string;
  readonly object: KubeObject;
}

export interface ControlPlane {
  readonly slot: Slot;
  readonly url: string;
  /** The CA certificate, PEM. */
  readonly ca: string;
  readonly caPath: string;
  /** Of a user in system:masters. */
  readonly adminToken: string;
  /** A kubeconfig file of the admin. */
  readonly kubeconfig: string;
  readonly admin: ApiClient;
  /** Process ids, for measuring. */
  pids(): { etcd: number; apiServer: number };
  /** A client with another token. */
  client(token: string): ApiClient;
  /** A token of a service account, which is created if it does not exist. */
  tokenFor(serviceAccount: string, options?: TokenOptions): Promise<string>;
  /** Writes a kubeconfig with this token into the slot; returns its path. */
  kubeconfigFor(name: string, token: string, url?: string): string;
  /** Creates a namespace with its `default` service account, as the controllers would. */
  createNamespace(name: string): Promise<void>;
  /** Ends kube-apiserver; etcd keeps what it has. */
  stopApiServer(signal?: NodeJS.Signals): Promise<void>;
  /** Starts it again on the same port. */
  startApiServer(): Promise<void>;
  /**
   * Writes objects into etcd behind the API server's back, a thousand a second: nothing is validated, and what the
   * server would fill in (uid, creationTimestamp) must be there. Watchers see them as any others.
   */
  store(objects: readonly StoredObject[]): Promise<void>;
  /** Makes etcd forget history, so that old resource versions are answered with 410 Gone. */
  compact(): Promise<void>;
  stop(): Promise<void>;
}

/** Why no control plane can run here, or undefined. Tests skip with it. */
export function controlPlaneUnavailable(): string | undefined {
  if (process.platform !== 'linux') return 'the testbed needs Linux';
  for (const command of ['openssl', 'setpriv']) {
    try {
      execFileSync(command, ['--version'], { stdio: 'ignore' });
    } catch (error) {
      // openssl before 3 does not know --version but is there.
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return `${command} is not installed`;
    }
  }
  return cannotBuild();
}

/** A TCP port nobody listens on at this moment. */
export function freePort(address = '127.0.0.1'): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.on('error', reject);
    server.listen(0, address, () => {
      const bound = server.address();
      server.close(() => resolve(typeof bound === 'object' && bound ? bound.port : 0));
    });
  });
}

interface Paths {
  readonly pki: string;
  readonly caCertificate: string;
  readonly certificate: string;
  readonly key: string;
  readonly serviceAccountKey: string;
  readonly tokens: string;
}

/** First address of a range: where the API server puts the Service `kubernetes`. */
function firstAddress(range: string): string {
  const octets = range.replace(/\/.*/, '').split('.').map(Number);
  return [...octets.slice(0, 3), (octets[3] ?? 0) + 1].join('.');
}

/** Certificates, keys and tokens, in the slot's directory. */
function writeSecrets(slot: Slot, addresses: string[], adminToken: string): Paths {
  const pki = join(slot.directory, 'pki');
  mkdirSync(pki, { mode: 0o700 });
  const paths: Paths = {
    pki,
    caCertificate: join(pki, 'ca.crt'),
    certificate: join(pki, 'apiserver.crt'),
    key: join(pki, 'apiserver.key'),
    serviceAccountKey: join(pki, 'service-accounts.key'),
    tokens: join(pki, 'tokens.csv'),
  };
  const names = ['localhost', 'kubernetes', 'kubernetes.default', 'kubernetes.default.svc'];
  const alternatives = [
    ...names.map((name) => `DNS:${name}`),
    ...addresses.map((address) => `IP:${address}`),
  ];
  const configuration = join(pki, 'openssl.cnf');
  writeFileSync(
    configuration,
    [
      '[req]\ndistinguished_name=dn\nprompt=no\n[dn]\n',
      '[ca]\nbasicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign,digitalSignature\nsubjectKeyIdentifier=hash\n',
      `[server]\nbasicConstraints=CA:FALSE\nextendedKeyUsage=serverAuth\nsubjectAltName=${alternatives.join(',')}\n`,
    ].join(''),
  );
  const openssl = (...args: string[]): void => {
    const common = [
      '-x509',
      '-config',
      configuration,
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
    ];
    execFileSync('openssl', ['req', ...common, '-noenc', '-days', '30', ...args], { stdio: 'pipe' });
  };
  const caKey = join(pki, 'ca.key');
  openssl('-extensions', 'ca', '-subj', '/CN=testbed CA', '-keyout', caKey, '-out', paths.caCertificate);
  const signer = ['-CA', paths.caCertificate, '-CAkey', caKey];
  openssl(
    '-extensions',
    'server',
    '-subj',
    '/CN=apiserver',
    ...signer,
    '-keyout',
    paths.key,
    '-out',
    paths.certificate,
  );
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  writeFileSync(paths.serviceAccountKey, privateKey.export({ type: 'pkcs8', format: 'pem' }), {
    mode: 0o600,
  });
  writeFileSync(paths.tokens, `${adminToken},testbed-admin,testbed-admin,"system:masters"\n`, {
    mode: 0o600,
  });
  return paths;
}

const ISSUER = 'https://kubernetes.default.svc';

/** Starts etcd and kube-apiserver and waits until they serve. The first call on a machine builds both. */
export async function startControlPlane(options: ControlPlaneOptions = {}): Promise<ControlPlane> {
  const [etcdPath, apiServerPath] = [await buildProgram('etcd'), await buildProgram('apiserver')];
  const slot = options.slot ?? (await takeSlot());
  try {
    return await start(slot, options, etcdPath, apiServerPath);
  } catch (error) {
    if (!options.slot) await slot.release();
    throw error;
  }
}

async function start(
  slot: Slot,
  options: ControlPlaneOptions,
  etcdPath: string,
  apiServerPath: string,
): Promise<ControlPlane> {
  const address = options.address ?? '127.0.0.1';
  const serviceRange = options.serviceRange ?? `10.${64 + slot.number}.128.0/17`;
  const adminToken = randomBytes(16).toString('hex');
  const paths = writeSecrets(
    slot,
    [...new Set(['127.0.0.1', address, firstAddress(serviceRange)])],
    adminToken,
  );
  const { etcd, etcdUrl } = await startEtcd(slot, etcdPath);

  const port = await freePort(address);
  const url = `https://${address}:${port}`;
  const ca = readFileSync(paths.caCertificate, 'utf8');
  const client = (token: string): ApiClient => new ApiClient({ url, ca, token });
  const admin = client(adminToken);
  const flags = apiServerFlags(paths, etcdUrl, address, port, serviceRange);
  const launch = async (): Promise<RunningProcess> => {
    const args = [...flags, ...(options.apiServerFlags ?? [])];
    const process = startProcess(slot, { name: 'kube-apiserver', command: apiServerPath, args });
    await waitUntilReady(process, async () => (await admin.raw('GET', '/readyz')).status === 200);
    return process;
  };
  let apiServer = await launch();

  const kubeconfigFor = (name: string, token: string, server = url): string =>
    writeKubeconfig(join(slot.directory, `${name}.kubeconfig`), server, paths.caCertificate, token);
  return {
    slot,
    url,
    ca,
    caPath: paths.caCertificate,
    adminToken,
    kubeconfig: kubeconfigFor('admin', adminToken),
    admin,
    pids: () => ({ etcd: etcd.pid, apiServer: apiServer.pid }),
    client,
    tokenFor: (name, tokenOptions = {}) => requestToken(admin, paths.serviceAccountKey, name, tokenOptions),
    kubeconfigFor,
    createNamespace: (name) => createNamespace(admin, name),
    stopApiServer: (signal) => apiServer.stop(signal),
    startApiServer: async () => {
      apiServer = await launch();
    },
    store: (objects) => store(etcdUrl, objects),
    compact: () => compact(etcdUrl),
    stop: async () => {
      admin.close();
      await apiServer.stop('SIGKILL');
      await etcd.stop('SIGKILL');
      if (!options.slot) await slot.release();
    },
  };
}

async function startEtcd(slot: Slot, path: string): Promise<{ etcd: RunningProcess; etcdUrl: string }> {
  const etcdUrl = `http://127.0.0.1:${await freePort()}`;
  const peerUrl = `http://127.0.0.1:${await freePort()}`;
  const args = [
    `--data-dir=${join(slot.directory, 'etcd')}`,
    `--listen-client-urls=${etcdUrl}`,
    `--advertise-client-urls=${etcdUrl}`,
    `--listen-peer-urls=${peerUrl}`,
    `--initial-advertise-peer-urls=${peerUrl}`,
    `--initial-cluster=default=${peerUrl}`,
    '--log-level=warn',
    '--unsafe-no-fsync',
  ];
  const etcd = startProcess(slot, { name: 'etcd', command: path, args });
  await waitUntilReady(etcd, async () => (await fetch(`${etcdUrl}/readyz`)).ok);
  return { etcd, etcdUrl };
}

function apiServerFlags(
  paths: Paths,
  etcdUrl: string,
  address: string,
  port: number,
  serviceRange: string,
): string[] {
  // An endpoint of the Service `kubernetes` may not be a loopback address; 192.0.2.0/24 is for documentation.
  const advertised = address.startsWith('127.') ? '192.0.2.1' : address;
  return [
    `--etcd-servers=${etcdUrl}`,
    `--bind-address=${address}`,
    `--advertise-address=${advertised}`,
    `--secure-port=${port}`,
    `--tls-cert-file=${paths.certificate}`,
    `--tls-private-key-file=${paths.key}`,
    `--cert-dir=${paths.pki}`,
    `--service-cluster-ip-range=${serviceRange}`,
    `--service-account-issuer=${ISSUER}`,
    `--service-account-key-file=${paths.serviceAccountKey}`,
    `--service-account-signing-key-file=${paths.serviceAccountKey}`,
    `--token-auth-file=${paths.tokens}`,
    '--authorization-mode=Node,RBAC',
    '--allow-privileged=true',
    '--shutdown-send-retry-after=false',
  ];
}

function writeKubeconfig(path: string, server: string, caPath: string, token: string): string {
  const configuration = {
    apiVersion: 'v1',
    kind: 'Config',
    'current-context': 'testbed',
    clusters: [{ name: 'testbed', cluster: { server, 'certificate-authority': caPath } }],
    users: [{ name: 'testbed', user: { token } }],
    contexts: [{ name: 'testbed', context: { cluster: 'testbed', user: 'testbed' } }],
  };
  writeFileSync(path, `${JSON.stringify(configuration, undefined, 2)}\n`, { mode: 0o600 });
  return path;
}

async function createIfMissing(admin: ApiClient, object: KubeObject): Promise<KubeObject> {
  return admin.apply(object);
}

async function createNamespace(admin: ApiClient, name: string): Promise<void> {
  await createIfMissing(admin, { apiVersion: 'v1', kind: 'Namespace', metadata: { name } });
  const metadata = { name: 'default', namespace: name };
  await createIfMissing(admin, { apiVersion: 'v1', kind: 'ServiceAccount', metadata });
}

async function requestToken(
  admin: ApiClient,
  signingKeyPath: string,
  name: string,
  options: TokenOptions,
): Promise<string> {
  const { namespace = 'default', expiresInSeconds = 3600 } = options;
  const account = await createIfMissing(admin, {
    apiVersion: 'v1',
    kind: 'ServiceAccount',
    metadata: { name, namespace },
  });
  if (expiresInSeconds < 600) return signToken(signingKeyPath, account, expiresInSeconds);
  const path = `/api/v1/namespaces/${namespace}/serviceaccounts/${name}/token`;
  const spec = { expirationSeconds: expiresInSeconds };
  const answer = await admin.raw('POST', path, {
    apiVersion: 'authentication.k8s.io/v1',
    kind: 'TokenRequest',
    spec,
  });
  if (answer.status !== 201)
    throw new Error(`no token for ${namespace}/${name}: ${JSON.stringify(answer.body)}`);
  return answer.body.status.token;
}

/** What the API server's own token request signs, with a lifetime that it would refuse as too short. */
function signToken(keyPath: string, account: KubeObject, expiresInSeconds: number): string {
  const { name, namespace, uid } = account.metadata;
  // The server's verifier accepts a token for a minute after it has expired.
  const now = Math.floor(Date.now() / 1000) - 60;
  const claims = {
    aud: [ISSUER],
    iss: ISSUER,
    sub: `system:serviceaccount:${namespace}:${name}`,
    iat: now,
    nbf: now,
    exp: now + expiresInSeconds,
    'kubernetes.io': { namespace, serviceaccount: { name, uid } },
  };
  const encode = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString('base64url');
  const body = `${encode({ alg: 'RS256', typ: 'JWT' })}.${encode(claims)}`;
  const signature = createSign('RSA-SHA256').update(body).sign(readFileSync(keyPath, 'utf8'), 'base64url');
  return `${body}.${signature}`;
}

async function etcdPost<T>(etcdUrl: string, path: string, body: unknown): Promise<T> {
  const response = await fetch(`${etcdUrl}${path}`, { method: 'POST', body: JSON.stringify(body) });
  if (!response.ok) throw new Error(`etcd ${path}: ${response.status} ${await response.text()}`);
  return (await response.json()) as T;
}

const base64 = (text: string): string => Buffer.from(text).toString('base64');

async function store(etcdUrl: string, objects: readonly StoredObject[]): Promise<void> {
  // etcd takes 128 operations and 1.5 MiB at once.
  for (let start = 0; start < objects.length; start += 100) {
    const success = objects.slice(start, start + 100).map(({ key, object }) => ({
      requestPut: { key: base64(`/registry/${key}`), value: base64(JSON.stringify(object)) },
    }));
    await etcdPost(etcdUrl, '/v3/kv/txn', { success });
  }
  // All puts of a transaction have one revision, and a list could be answered when the first of them has arrived in
  // the server's cache. With a later revision in etcd the server waits for that one.
  await etcdPost(etcdUrl, '/v3/kv/put', { key: base64('/testbed/stored'), value: '' });
}

async function compact(etcdUrl: string): Promise<void> {
  const range = { key: base64('/') };
  const { header } = await etcdPost<{ header: { revision: string } }>(etcdUrl, '/v3/kv/range', range);
  await etcdPost(etcdUrl, '/v3/kv/compaction', { revision: header.revision, physical: true });
}
