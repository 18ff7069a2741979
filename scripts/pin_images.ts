// The command scripts/pin-images: asks the registries (Registry HTTP API v2) what the tags of the Dockerfile's base
// images point to and writes the digests down. Needs no container engine.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';

const HELP = `scripts/pin-images                  writes into the Dockerfile the digest that each base image's tag has now
scripts/pin-images --check          writes nothing; exit code 1 where a base image has no digest or its tag has moved on
  --file PATH                       another Dockerfile
  --registry URL                    asks this registry for all images, instead of the ones that their names say`;

const DEFAULT_REGISTRY = 'https://registry-1.docker.io';
/** Machines that the image is built for. */
const ARCHITECTURES = ['amd64', 'arm64'];
const INDEX_TYPES = [
  'application/vnd.oci.image.index.v1+json',
  'application/vnd.docker.distribution.manifest.list.v2+json',
];
const TIMEOUT_MILLIS = 30_000;

type Image = {
  /** As in the Dockerfile, without its digest: node:24-bookworm-slim. */
  name: string;
  digest: string | undefined;
};

const FROM = /^FROM\s+(?:--platform=\S+\s+)?(\S+)(?:\s+AS\s+(\S+))?[ \t]*$/gim;

/** The images that a Dockerfile starts from, without its own stages. */
export function baseImages(dockerfile: string): Image[] {
  const stages = new Set<string>();
  const images: Image[] = [];
  for (const [, reference = '', stage] of dockerfile.matchAll(FROM)) {
    const [name = '', digest] = reference.split('@');
    if (!stages.has(name) && name !== 'scratch') images.push({ name, digest });
    if (stage !== undefined) stages.add(stage);
  }
  return images;
}

/** The Dockerfile with other digests, by image name. */
export function withDigests(dockerfile: string, digests: ReadonlyMap<string, string>): string {
  return dockerfile.replaceAll(FROM, (line: string, reference: string) => {
    const [name = ''] = reference.split('@');
    const digest = digests.get(name);
    return digest === undefined ? line : line.replace(reference, `${name}@${digest}`);
  });
}

/** Registry, repository and tag of an image's name, by the rules of container engines. */
function parseName(name: string): { registry: string; repository: string; tag: string } {
  const tagged = /^(.*?)(?::([^:/]+))?$/.exec(name);
  const path = tagged?.[1] ?? name;
  const [first = '', ...rest] = path.split('/');
  const isHost = rest.length > 0 && /[.:]|^localhost$/.test(first);
  const repository = isHost ? rest.join('/') : path.includes('/') ? path : `library/${path}`;
  const registry = !isHost || first === 'docker.io' ? DEFAULT_REGISTRY : `https://${first}`;
  return { registry, repository, tag: tagged?.[2] ?? 'latest' };
}

/** The digest of an image's index; verified by hashing what the registry sent. Throws an Error with one sentence. */
export async function resolveDigest(name: string, registry?: string): Promise<string> {
  const parts = parseName(name);
  const url = new URL(`/v2/${parts.repository}/manifests/${parts.tag}`, registry ?? parts.registry);
  const response = await getManifest(url);
  if (!response.ok) throw new Error(`${name}: the registry answered ${response.status}`);
  const body = Buffer.from(await response.arrayBuffer());
  const digest = `sha256:${createHash('sha256').update(body).digest('hex')}`;
  const claimed = response.headers.get('docker-content-digest');
  if (claimed !== null && claimed !== digest)
    throw new Error(`${name}: the registry says ${claimed}, but what it sent is ${digest}`);
  const type = response.headers.get('content-type')?.split(';')[0] ?? '';
  // An image of one platform would pin the others out.
  if (!INDEX_TYPES.includes(type)) throw new Error(`${name}: not an index of platforms, but ${type}`);
  const missing = ARCHITECTURES.filter((architecture) => !architecturesOf(body).includes(architecture));
  if (missing.length > 0) throw new Error(`${name}: there is no image for ${missing.join(', ')}`);
  return digest;
}

function architecturesOf(index: Buffer): string[] {
  type Index = { manifests: { platform?: { os: string; architecture: string } }[] };
  return (JSON.parse(index.toString()) as Index).manifests
    .filter(({ platform }) => platform?.os === 'linux')
    .map(({ platform }) => platform?.architecture ?? '');
}

/** Asks without a token first; where the registry wants one, gets it from where the registry says and asks again. */
async function getManifest(url: URL): Promise<Response> {
  const headers = { accept: INDEX_TYPES.join(', ') };
  const first = await get(url, headers);
  const challenge = first.headers.get('www-authenticate');
  if (first.status !== 401 || challenge === null) return first;
  await first.body?.cancel();
  const parameters = new Map(
    [...challenge.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = '', value = '']) => [key, value]),
  );
  const realm = parameters.get('realm');
  if (!/^bearer /i.test(challenge) || realm === undefined) return first;
  const tokenUrl = new URL(realm);
  for (const key of ['service', 'scope']) {
    const value = parameters.get(key);
    if (value !== undefined) tokenUrl.searchParams.set(key, value);
  }
  const answer = await get(tokenUrl, {});
  if (!answer.ok) throw new Error(`${url.host}: no token, the answer was ${answer.status}`);
  const { token, access_token } = (await answer.json()) as { token?: string; access_token?: string };
  return get(url, { ...headers, authorization: `Bearer ${token ?? access_token}` });
}

async function get(url: URL, headers: Record<string, string>): Promise<Response> {
  try {
    return await fetch(url, { headers, signal: AbortSignal.timeout(TIMEOUT_MILLIS) });
  } catch (error) {
    const { cause, message } = error as Error;
    throw new Error(`${url.host} cannot be asked: ${cause instanceof Error ? cause.message : message}`);
  }
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      check: { type: 'boolean' },
      file: { type: 'string', default: join(import.meta.dirname, '../Dockerfile') },
      registry: { type: 'string' },
      help: { type: 'boolean' },
    },
  });
  if (values.help) {
    console.log(HELP);
    return 0;
  }
  const dockerfile = readFileSync(values.file, 'utf8');
  const digests = new Map<string, string>();
  let moved = 0;
  for (const { name, digest } of baseImages(dockerfile)) {
    const now = await resolveDigest(name, values.registry);
    digests.set(name, now);
    if (now !== digest) moved++;
    console.log(`${name}: ${now}${now === digest ? '' : ` (was ${digest ?? 'not pinned'})`}`);
  }
  if (values.check) return moved === 0 ? 0 : 1;
  // Only when all of them are known: no half-written file.
  if (moved > 0) writeFileSync(values.file, withDigests(dockerfile, digests));
  return 0;
}

if (import.meta.main) {
  try {
    process.exitCode = await main();
  } catch (error) {
    console.error(`scripts/pin-images: ${(error as Error).message}`);
    process.exitCode = 1;
  }
}
