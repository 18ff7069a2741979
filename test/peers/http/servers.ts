// Real HTTP servers and clients in several languages, unchanged: how each is built, started and named. Every server
// answers, every client asks for:
//
//   GET /ping/N, HEAD /ping/N 200    GET /missing 404    GET /broken 503    POST /echo 201    GET /large 200, 300,000 bytes
//
// A client asks each of its servers REPEAT times for all of these, /large once. A peer that this host cannot run says why.
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from 'node:fs';
import { homedir, tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { freePort, Nginx, start } from '../../kernel/http/harness.ts';
import { findGo } from '../../testbed/build.ts';

const run = promisify(execFile);
const HERE = import.meta.dirname;

/** A server that runs, ended by the harness' `endAll`; `log` answers what it says it served: "GET 200 /ping/7". */
export interface PeerServer {
  readonly port: number;
  readonly log?: () => string[];
  readonly remove?: () => void;
}

export interface Peer {
  readonly name: string;
  /** Why it cannot run here. */
  readonly missing?: () => string | undefined;
  readonly build?: () => Promise<void>;
  /** As a server; left out where it is only a client. */
  readonly serve?: () => Promise<PeerServer>;
  /** Its server writes a log. */
  readonly logs?: true;
  /** As a client; resolves when it has done everything. */
  readonly ask?: (repeat: number, bases: readonly string[]) => Promise<void>;
  /** The workload that its processes must be called. */
  readonly workload: RegExp;
}

function has(command: string): boolean {
  try {
    execFileSync('sh', ['-c', `command -v ${command}`], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

const lacking = (what: string, ...commands: string[]) => {
  return () => (commands.every(has) ? undefined : `${what} is not installed`);
};

function cache(): string {
  const base =
    process.env.KNPTEST_CACHE ??
    join(process.env.XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'kubenetprobe');
  const folder = join(base, 'http-peers');
  mkdirSync(folder, { recursive: true });
  return folder;
}

/** Where what is built from these files is kept, under a name that changes with them. */
function built(name: string, ...inputs: string[]): string {
  const hash = createHash('sha256').update(process.arch);
  for (const input of inputs) hash.update(`\0${readFileSync(join(HERE, input))}`);
  return join(cache(), `${hash.digest('hex').slice(0, 16)}-${name}`);
}

const goFolder = () => built('go', 'go/main.go', 'go/go.mod');
const goPeer = () => join(goFolder(), 'knp-go-peer');
const javaFolder = () => built('java', 'Peer.java');

async function buildGo(): Promise<void> {
  if (existsSync(goPeer())) return;
  const own = `${goFolder()}.${process.pid}`;
  const environment = { ...process.env, GOTOOLCHAIN: 'local', GOFLAGS: '', CGO_ENABLED: '0' };
  await run(findGo() ?? 'go', ['build', '-trimpath', '-buildvcs=false', '-o', `${own}/knp-go-peer`, '.'], {
    cwd: join(HERE, 'go'),
    env: environment,
  });
  renameSync(own, goFolder());
}

async function buildJava(): Promise<void> {
  if (existsSync(javaFolder())) return;
  const own = `${javaFolder()}.${process.pid}`;
  await run('javac', ['-d', own, join(HERE, 'Peer.java')]);
  renameSync(own, javaFolder());
}

async function serveWith(command: string, ...args: string[]): Promise<PeerServer> {
  const port = await freePort();
  const child = await start(command, [...args, String(port)], /ready/);
  child.stdout?.resume();
  child.stderr?.resume();
  return { port };
}

async function serveNginx(): Promise<PeerServer> {
  const nginx = await Nginx.start(`
    location /ping { return 200 "pong\\n"; }
    location = /echo { return 201 "made\\n"; }
    location /missing { return 404; }
    location /broken { return 503; }`);
  nginx.file('large', Buffer.alloc(300_000, 'x'));
  const log = () => nginx.log().map(({ method, status, uri }) => `${method} ${status} ${uri}`);
  return { port: nginx.port, log, remove: () => nginx.remove() };
}

async function serveApache(): Promise<PeerServer> {
  const port = await freePort();
  const folder = mkdtempSync(join(tmpdir(), 'knp-apache-'));
  chmodSync(folder, 0o755);
  writeFileSync(join(folder, 'pong'), 'pong\n');
  writeFileSync(join(folder, 'large'), 'x'.repeat(300_000));
  const modules = ['mpm_event', 'authz_core', 'alias', 'rewrite'].map(
    (name) => `LoadModule ${name}_module /usr/lib/apache2/modules/mod_${name}.so`,
  );
  writeFileSync(
    join(folder, 'apache.conf'),
    `${modules.join('\n')}
ServerName localhost
Listen 127.0.0.1:${port}
User www-data
Group www-data
PidFile ${folder}/pid
DefaultRuntimeDir ${folder}
Mutex sem
ErrorLog ${folder}/error.log
LogFormat "%m %>s %U" plain
CustomLog ${folder}/access.log plain
DocumentRoot ${folder}
MaxKeepAliveRequests 0
KeepAliveTimeout 600
AliasMatch ^/ping/ ${folder}/pong
RewriteEngine on
RewriteRule ^/missing - [R=404]
RewriteRule ^/broken - [R=503]
RewriteRule ^/echo - [R=201]
`,
  );
  await start('/usr/sbin/apache2', ['-f', `${folder}/apache.conf`, '-DFOREGROUND'], port);
  const log = () =>
    readFileSync(`${folder}/access.log`, 'latin1')
      .split('\n')
      .filter((line) => line !== '');
  return { port, log };
}

async function ask(command: string, ...args: string[]): Promise<void> {
  await run(command, args, { maxBuffer: 2 ** 26 });
}

async function askCurl(repeat: number, bases: readonly string[]): Promise<void> {
  const args: string[] = [];
  const next = (...more: string[]) => {
    if (args.length > 0) args.push('--next');
    args.push('-s', '-o', '/dev/null', ...more);
  };
  const body = join(mkdtempSync(join(tmpdir(), 'knp-curl-')), 'body');
  writeFileSync(body, 'y'.repeat(5000));
  for (const base of bases) {
    for (let i = 0; i < repeat; i++) {
      next(`${base}/ping/7?secret=s3cret`);
      next(`${base}/missing`);
      next(`${base}/broken`);
      next('--head', `${base}/ping/8`);
      // A final answer after an interim one, where the server gives it.
      next(
        '--expect100-timeout',
        '0.02',
        '-H',
        'Expect: 100-continue',
        '--data-binary',
        `@${body}`,
        `${base}/echo`,
      );
    }
    next(`${base}/large`);
  }
  await ask('curl', ...args);
}

/** All peers; those with `serve` are servers, those with `ask` clients. */
export const PEERS: readonly Peer[] = [
  {
    name: 'nginx',
    missing: lacking('nginx', '/usr/sbin/nginx'),
    serve: serveNginx,
    logs: true,
    workload: /^nginx$/,
  },
  {
    name: 'apache',
    missing: lacking('Apache (apache2-bin)', '/usr/sbin/apache2'),
    serve: serveApache,
    logs: true,
    workload: /^apache2$/,
  },
  {
    name: 'node',
    serve: () => serveWith(process.execPath, join(HERE, 'server.mjs')),
    ask: (repeat, bases) => ask(process.execPath, join(HERE, 'client.mjs'), String(repeat), ...bases),
    workload: /^node$/,
  },
  {
    name: 'python',
    missing: lacking('Python', 'python3'),
    serve: () => serveWith('python3', join(HERE, 'server.py')),
    ask: (repeat, bases) => ask('python3', join(HERE, 'client.py'), String(repeat), ...bases),
    workload: /^python3/,
  },
  {
    name: 'go',
    missing: () => (existsSync(goPeer()) || findGo() ? undefined : 'Go is not installed'),
    build: buildGo,
    serve: () => serveWith(goPeer(), 'server'),
    ask: (repeat, bases) => ask(goPeer(), 'client', String(repeat), ...bases),
    workload: /^knp-go-peer$/,
  },
  {
    name: 'java',
    missing: lacking('a JDK', 'java', 'javac'),
    build: buildJava,
    serve: () => serveWith('java', '-cp', javaFolder(), 'Peer', 'server'),
    ask: (repeat, bases) => ask('java', '-cp', javaFolder(), 'Peer', 'client', String(repeat), ...bases),
    workload: /^java$/,
  },
  { name: 'curl', missing: lacking('curl', 'curl'), ask: askCurl, workload: /^curl$/ },
];
