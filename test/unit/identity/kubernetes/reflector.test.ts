// The copy equals the server's truth after any sequence of faults; and it costs the server no more than it must.
import { isDeepStrictEqual } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { connectTo } from '../../../../exporter/identity/kubernetes/connection.ts';
import { Reflector, type ReflectorOptions } from '../../../../exporter/identity/kubernetes/reflector.ts';
import { FakeApiServer, type FakeObject, type FakeRequest, keyOf } from './fake_api_server.ts';

interface Copy {
  readonly key: string;
  readonly value: number;
}

const project = (object: unknown): Copy | undefined => {
  const { metadata, value } = object as FakeObject;
  return metadata?.name ? { key: `${metadata.namespace ?? ''}/${metadata.name}`, value } : undefined;
};

let server: FakeApiServer;
let url: string;
let store: Map<string, Copy>;
/** Complete lists. */
let complete: number;
let problems: (string | undefined)[];
let reflector: Reflector<Copy> | undefined;

beforeEach(async () => {
  server = new FakeApiServer();
  url = await server.start();
  store = new Map();
  complete = 0;
  problems = [];
});
afterEach(async () => {
  await reflector?.stop();
  reflector = undefined;
  await server.stop();
});

function run(more: Partial<ReflectorOptions<Copy>> = {}): Reflector<Copy> {
  reflector = new Reflector<Copy>({
    resource: 'pods',
    path: '/api/v1/pods',
    connection: connectTo(url, {}, 2000),
    project,
    sink: {
      set: (object) => store.set(object.key, object),
      retain: (keys) => {
        for (const key of [...store.keys()]) if (!keys.has(key)) store.delete(key);
        complete++;
      },
      delete: (key) => store.delete(key),
    },
    onProblem: (problem) => problems.push(problem),
    backoff: { minMillis: 2, maxMillis: 20, refusedMillis: 20 },
    pageSize: 7,
    ...more,
  });
  reflector.start();
  return reflector;
}

let marker = 0;
const put = (name: string, value: number) =>
  server.put('pods', { metadata: { name, namespace: 'n' }, value });
const truth = () => new Map(server.objects('pods').map((object) => [keyOf(object), project(object)]));

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > deadline) throw new Error(`still not: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/**
 * Waits until the client knows of its watch. Its own counter says so: the server has a watch before the client has heard
 * of it, and objects of a list are there before the list is complete, so that a fault would hit the list.
 */
async function watching(): Promise<void> {
  await until(() => reflector?.counters.watches === 1, 'watching');
}

/** Waits until a last change has arrived and with it everything before, be it by a watch or by the end of a list. */
async function settle(): Promise<void> {
  put('marker', ++marker);
  const value = marker;
  const arrived = () => store.get('n/marker')?.value === value && isDeepStrictEqual(store, truth());
  await until(arrived, 'the copy is the truth').catch(() => expect(store).toEqual(truth()));
}

describe('in good times', () => {
  it('lists once, in pages, then watches; changes arrive', async () => {
    for (let index = 0; index < 50; index++) put(`pod-${index}`, index);
    run();
    await settle();
    put('pod-1', 1000);
    server.remove('pods', 'n/pod-2');
    put('new', 1);
    await settle();
    expect(server.lists('pods')).toBe(1);
    expect(server.count('pods', 'list')).toBe(Math.ceil(50 / 7));
    expect(server.count('pods', 'watch')).toBe(1);
    const [first, ...pages] = server.requests.filter((request) => request.verb === 'list');
    expect(first?.query.get('resourceVersion')).toBe('0');
    expect(pages.every((page) => !page.query.has('resourceVersion'))).toBe(true);
    expect(
      server.requests.find((request) => request.verb === 'watch')?.query.get('allowWatchBookmarks'),
    ).toBe('true');
    expect(problems).toEqual([]);
  });

  it('an empty list is complete, too', async () => {
    const { counters } = run();
    await watching();
    expect(reflector?.synced).toBe(true);
    expect(counters).toMatchObject({ lists: 1, pages: 1, watches: 1, failures: 0 });
  });

  it('goes on after a watch that ended or was cut, without a new list', async () => {
    for (let index = 0; index < 10; index++) put(`pod-${index}`, index);
    run();
    await watching();
    await settle();
    for (let round = 0; round < 5; round++) {
      if (round % 2) server.endWatches();
      else server.cutConnections();
      put(`pod-${round}`, 100 + round);
      server.remove('pods', `n/pod-${9 - round}`);
      await settle();
    }
    expect(server.lists('pods')).toBe(1);
  });

  it('a bookmark moves the place to go on from, so that history may be forgotten', async () => {
    put('pod', 1);
    run();
    await watching();
    await settle();
    // Changes of other kinds move the server's version on, this watch hears nothing of them.
    for (let index = 0; index < 20; index++) server.put('services', { metadata: { name: 's' } });
    server.bookmark();
    await until(() => reflector?.counters.bookmarks === 1, 'bookmark seen');
    server.compact();
    server.cutConnections();
    await settle();
    expect(server.lists('pods')).toBe(1);
    expect(reflector?.counters.expired).toBe(0);
  });

  it('without the bookmark it is told 410 and lists again, asking for the newest', async () => {
    put('pod', 1);
    put('gone', 1);
    run();
    await watching();
    await settle();
    server.fault = ({ verb }) => (verb === 'watch' ? { kind: 'reset' } : undefined);
    server.cutConnections();
    server.remove('pods', 'n/gone');
    server.put('services', { metadata: { name: 's' } });
    server.compact();
    server.fault = () => undefined;
    await settle();
    expect(store.has('n/gone')).toBe(false);
    expect(reflector?.counters.expired).toBe(1);
    const lists = server.requests.filter(
      (request) => request.verb === 'list' && !request.query.has('continue'),
    );
    expect(lists.map((request) => request.query.get('resourceVersion'))).toEqual(['0', null]);
    expect(problems).toEqual([]);
  });

  it('stops at once, in any state', async () => {
    server.fault = () => ({ kind: 'hang' });
    const hanging = run();
    await until(() => server.requests.length === 1, 'asked');
    await hanging.stop();
    server.fault = () => undefined;
    const standing = run();
    await watching();
    await standing.stop();
    await until(() => server.watching === 0, 'gone');
  });
});

describe('faults of the server', () => {
  it('a list that is cut in mid-object, slow, garbage or an error is tried again until it is complete', async () => {
    for (let index = 0; index < 30; index++) put(`pod-${index}`, index);
    const faults = [
      { kind: 'cut', afterBytes: 300 },
      { kind: 'garbage', body: '<html>bad gateway</html>' },
      { kind: 'status', status: 503 },
      { kind: 'garbage', body: '{"items":[{"metadata":{}}],"metadata":{"resourceVersion":"5"}}' },
      { kind: 'garbage', body: '{"kind":"PodList","metadata":{},"items":[]}' },
      { kind: 'garbage', body: '[]' },
      { kind: 'garbage', body: '' },
      { kind: 'reset' },
      { kind: 'status', status: 429, headers: { 'retry-after': '0' } },
      { kind: 'slow', pieceBytes: 11 },
    ] as const;
    let next = 0;
    server.fault = ({ verb }) => (verb === 'list' ? faults[next++] : undefined);
    run();
    await until(() => complete === 1, 'listed');
    expect(store).toEqual(truth());
    expect(next).toBeGreaterThanOrEqual(faults.length);
    await until(() => problems.at(-1) === undefined, 'all clear');
  });

  it('garbage in a watch loses nothing', async () => {
    put('pod', 1);
    const { counters } = run();
    await watching();
    await settle();
    const pieces = [
      '\0\0\n',
      '{"type":"ADDED"}\n',
      '{"type":"WHAT","object":{"metadata":{"resourceVersion":"1"}}}\n',
      'null\n',
      '[]\n',
      '{"type":"MODIFIED","object":{"metadata":{"resourceVersion":"7"}}}\n',
      '{"type":"ADDED","obj\n',
    ];
    for (const garbage of pieces) {
      server.writeToWatches(garbage);
      put('pod', ++marker);
      await settle();
    }
    expect(server.lists('pods')).toBe(1);
    // Every piece has reached a watch.
    expect(counters.failures).toBe(pieces.length);
  });

  it('a place at which the server only ever answers garbage is left by a new list', async () => {
    put('pod', 1);
    run();
    await watching();
    await settle();
    let bad = true;
    server.fault = ({ verb, query }: FakeRequest) => {
      if (verb === 'list') bad = false;
      return bad && verb === 'watch' && query.get('resourceVersion')
        ? { kind: 'garbage', body: 'rubbish\n' }
        : undefined;
    };
    server.cutConnections();
    await settle();
    expect(server.lists('pods')).toBe(2);
    expect(problems.some((problem) => problem?.includes('cannot be read'))).toBe(true);
  });

  it('410 on every watch does not make a storm of lists', async () => {
    put('pod', 1);
    let open = false;
    server.fault = ({ verb }) => (verb === 'watch' && !open ? { kind: 'status', status: 410 } : undefined);
    run({ backoff: { minMillis: 40, maxMillis: 100_000 }, random: () => 1 });
    // Pauses of 0, 40, 80, 160 … ms: however slow this machine is, so long takes so many lists at least.
    const start = Date.now();
    await until(() => server.lists('pods') >= 5, 'five lists');
    expect(Date.now() - start).toBeGreaterThanOrEqual(40 + 80 + 160);
    open = true;
    await settle();
  });

  it('continue tokens that expire in mid-list start the list anew', async () => {
    for (let index = 0; index < 30; index++) put(`pod-${index}`, index);
    let compacted = 0;
    server.fault = ({ query }) => {
      if (query.has('continue') && compacted < 2) {
        compacted++;
        put('meanwhile', compacted);
        server.compact();
      }
      return undefined;
    };
    run();
    await settle();
    expect(compacted).toBe(2);
    expect(server.lists('pods')).toBe(3);
  });

  it('a version from the future (etcd was restored from a backup) leads to a new list', async () => {
    put('pod', 1);
    let future = true;
    server.fault = ({ verb }) => {
      if (verb === 'list' && store.size > 0) future = false;
      return future && verb === 'watch'
        ? {
            kind: 'status',
            status: 504,
            body: JSON.stringify({
              kind: 'Status',
              code: 504,
              reason: 'Timeout',
              message: 'Too large resource version: 900, current: 5',
            }),
          }
        : undefined;
    };
    run();
    await until(() => store.size > 0, 'listed');
    await settle();
    expect(server.lists('pods')).toBe(2);
  });

  it.each([
    ['list', 403, 'not allowed to list pods (403): grant the verb list on pods'],
    ['watch', 403, 'not allowed to watch pods (403): grant the verb watch on pods'],
    ['list', 401, "does not accept the agent's token (401)"],
    ['list', 404, 'the API server has no pods (404)'],
    ['watch', 500, 'the API server failed to watch pods (500: injected); trying again'],
  ] as const)('%s answered %d: one clear line, and none when it passes', async (verb, status, line) => {
    put('pod', 1);
    let refusals = 0;
    server.fault = (request) =>
      request.verb === verb && refusals++ < 4 ? { kind: 'status', status } : undefined;
    run();
    await settle();
    await until(() => problems.length >= 2, 'problem and all-clear');
    expect(problems).toHaveLength(2);
    expect(problems[0]).toContain(line);
    expect(problems[1]).toBeUndefined();
  });

  it('a server that is away is named; everything is caught up when it is back', async () => {
    put('pod', 1);
    run();
    await watching();
    await settle();
    await server.stop();
    await until(() => problems.length === 1, 'noticed');
    expect(problems[0]).toContain(`cannot reach the API server at ${url} (ECONNREFUSED)`);
    put('pod', 2);
    put('other', 3);
    expect(store.has('n/other')).toBe(false);
    await server.start();
    await settle();
    expect(problems).toEqual([problems[0], undefined]);
    expect(server.lists('pods')).toBe(1);
  });

  it('silence on a connection is noticed', async () => {
    put('pod', 1);
    let hang = true;
    server.fault = ({ verb }) => (verb === 'watch' && hang ? { kind: 'hang' } : undefined);
    run({ connection: connectTo(url, {}, 100) });
    await until(() => server.count('pods', 'watch') >= 2, 'tried again');
    hang = false;
    await settle();
  });
});

describe('any sequence of faults', () => {
  /** mulberry32 */
  function generator(seed: number): () => number {
    let state = seed;
    return () => {
      state = (state + 0x6d2b79f5) | 0;
      let t = Math.imul(state ^ (state >>> 15), 1 | state);
      t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
      return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
    };
  }

  it.each(Array.from({ length: 25 }, (_, index) => index + 1))(
    'seed %d: the copy ends up equal to the truth',
    async (seed) => {
      const random = generator(seed);
      const upTo = (limit: number) => Math.floor(random() * limit);
      const garbage = [
        '{',
        'rubbish\n',
        '{"type":"ADDED","object":{}}\n',
        '{"items":[{"metadata":{"name":""}}]}',
        '\n\n',
        'null\n',
      ];
      const faultRate = 0.2 + random() * 0.5;
      let calm = false;
      server.fault = () => {
        if (calm || random() > faultRate) return undefined;
        switch (upTo(6)) {
          case 0:
            return { kind: 'cut', afterBytes: upTo(600) };
          case 1:
            return {
              kind: 'status',
              status: [410, 500, 502, 503, 504, 429, 401, 403, 404][upTo(9)] as number,
            };
          case 2:
            return { kind: 'garbage', body: garbage[upTo(garbage.length)] as string };
          case 3:
            return { kind: 'slow', pieceBytes: 1 + upTo(200) };
          case 4:
            return { kind: 'reset' };
          default:
            return random() < 0.1 ? { kind: 'hang' } : undefined;
        }
      };
      for (let index = upTo(40); index > 0; index--) put(`pod-${index}`, index);
      run({ connection: connectTo(url, {}, 300), random, pageSize: 1 + upTo(12) });
      for (let step = 0; step < 60; step++) {
        switch (upTo(12)) {
          case 0:
            server.endWatches();
            break;
          case 1:
            server.cutConnections();
            break;
          case 2:
            server.compact();
            break;
          case 3:
            server.bookmark();
            break;
          case 4:
            server.writeToWatches(garbage[upTo(garbage.length)] as string);
            break;
          case 5:
            if (random() < 0.3) {
              await server.stop();
              await new Promise((resolve) => setTimeout(resolve, upTo(10)));
              await server.start();
            }
            break;
          case 6:
          case 7:
            server.remove('pods', `n/pod-${upTo(45)}`);
            break;
          default:
            put(`pod-${upTo(45)}`, step);
        }
        if (random() < 0.5) await new Promise((resolve) => setTimeout(resolve, upTo(6)));
      }
      calm = true;
      await settle();
      await until(() => problems.at(-1) === undefined, 'all clear');
    },
  );
});
