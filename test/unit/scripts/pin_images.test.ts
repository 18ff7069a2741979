// scripts/pin-images against a registry on this machine that wants a token, as the public ones do.
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { baseImages, withDigests } from '../../../scripts/pin_images.ts';

const ROOT = join(import.meta.dirname, '../../..');
const INDEX = 'application/vnd.oci.image.index.v1+json';

type Manifest = { type: string; body: string; claim?: string };

const index = (...architectures: string[]): string =>
  JSON.stringify({
    schemaVersion: 2,
    manifests: architectures.map((architecture) => ({ platform: { os: 'linux', architecture } })),
  });
const digestOf = (body: string): string => `sha256:${createHash('sha256').update(body).digest('hex')}`;

const NODE = { type: INDEX, body: index('amd64', 'arm64', 's390x') };
const DEBIAN = { type: `${INDEX}; charset=utf-8`, body: index('arm64', 'amd64') };

/** What the registry serves, by path. */
let manifests: Record<string, Manifest>;
const server = createServer(answer);
const folder = mkdtempSync(join(tmpdir(), 'knp-pin-'));
const file = join(folder, 'Dockerfile');
let address = '';

function answer(request: IncomingMessage, response: ServerResponse): void {
  const url = new URL(request.url ?? '/', address);
  if (url.pathname === '/token') {
    response.end(JSON.stringify({ token: `for ${url.searchParams.get('scope')}` }));
    return;
  }
  const scope = `repository:${url.pathname.replace(/^\/v2\/(.*)\/manifests\/.*$/, '$1')}:pull`;
  if (request.headers.authorization !== `Bearer for ${scope}`) {
    const challenge = `Bearer realm="${address}/token",service="registry",scope="${scope}"`;
    response.writeHead(401, { 'www-authenticate': challenge }).end();
    return;
  }
  const manifest = manifests[url.pathname];
  // Without the right Accept, a registry answers with the image of one platform.
  if (manifest === undefined || !request.headers.accept?.includes(INDEX)) response.writeHead(404).end();
  else {
    const claim = manifest.claim ?? digestOf(manifest.body);
    response.writeHead(200, { 'content-type': manifest.type, 'docker-content-digest': claim });
    response.end(manifest.body);
  }
}

beforeAll(async () => {
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  address = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
});
afterAll(() => {
  server.close();
  rmSync(folder, { recursive: true, force: true });
});

const DOCKERFILE = `# comment
FROM node:24-bookworm-slim AS build
RUN true
FROM build AS tests
FROM debian:bookworm-slim@sha256:${'0'.repeat(64)}
COPY --from=build /a /b
`;
const PINNED = DOCKERFILE.replace('slim AS', `slim@${digestOf(NODE.body)} AS`).replace(
  /sha256:0+/,
  digestOf(DEBIAN.body),
);

beforeEach(() => {
  writeFileSync(file, DOCKERFILE);
  manifests = {
    '/v2/library/node/manifests/24-bookworm-slim': NODE,
    '/v2/library/debian/manifests/bookworm-slim': DEBIAN,
  };
});

/** Runs the command on our file and registry; answers its exit code and what it printed. */
function pin(...args: string[]): Promise<{ code: number; output: string }> {
  return new Promise((done) => {
    const all = ['--file', file, '--registry', address, ...args];
    execFile(join(ROOT, 'scripts/pin-images'), all, (error, stdout, stderr) =>
      done({ code: Number(error?.code ?? 0), output: stdout + stderr }),
    );
  });
}

test('writes the digests of what the registry sent; stages are left as they are', async () => {
  const { code, output } = await pin();
  expect(output).toContain(`(was not pinned)`);
  expect(code).toBe(0);
  expect(readFileSync(file, 'utf8')).toBe(PINNED);
});

test('--check says whether a tag has moved on, and writes nothing', async () => {
  expect((await pin('--check')).code).toBe(1);
  expect(readFileSync(file, 'utf8')).toBe(DOCKERFILE);
  writeFileSync(file, PINNED);
  expect((await pin('--check')).code).toBe(0);
});

test.each<[string, Partial<Manifest> | undefined, string]>([
  ['a tag that is not there', undefined, 'the registry answered 404'],
  ['another digest than that of what was sent', { claim: digestOf('x') }, 'but what it sent is'],
  ['the image of one platform', { type: 'application/vnd.oci.image.manifest.v1+json' }, 'not an index'],
  ['an index without arm64', { body: index('amd64') }, 'there is no image for arm64'],
])('%s is refused in a sentence, and nothing is written', async (_name, change, sentence) => {
  const path = '/v2/library/debian/manifests/bookworm-slim';
  if (change === undefined) delete manifests[path];
  else manifests[path] = { ...DEBIAN, ...change };
  const { code, output } = await pin();
  expect(code).toBe(1);
  expect(output).toContain(`scripts/pin-images: debian:bookworm-slim: `);
  expect(output).toContain(sentence);
  expect(readFileSync(file, 'utf8')).toBe(DOCKERFILE);
});

test('a registry that cannot be reached is named', async () => {
  const { code, output } = await pin('--registry', 'http://127.0.0.1:1');
  expect(code).toBe(1);
  expect(output).toContain('127.0.0.1:1 cannot be asked');
});

describe('the Dockerfile', () => {
  const dockerfile = readFileSync(join(ROOT, 'Dockerfile'), 'utf8');

  test('names its base images by tag and digest', () => {
    const images = baseImages(dockerfile);
    expect(images.map(({ name }) => name)).toEqual(['node:24-bookworm-slim', 'debian:bookworm-slim']);
    for (const { name, digest } of images) expect(digest, name).toMatch(/^sha256:[0-9a-f]{64}$/);
  });

  test('gets other digests and nothing else', () => {
    const digests = new Map([['debian:bookworm-slim', 'sha256:other']]);
    const changed = withDigests(dockerfile, digests).split('\n');
    const lines = dockerfile.split('\n');
    expect(changed.filter((line, at) => line !== lines[at])).toEqual([
      'FROM debian:bookworm-slim@sha256:other',
    ]);
  });
});
