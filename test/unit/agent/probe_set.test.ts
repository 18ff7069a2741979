// How probes start, fail, share and end, whichever they are.
import { beforeEach, describe, expect, test } from 'vitest';
import * as z from 'zod';
import { ProbeSet, startOrder } from '../../../exporter/agent/probe_set.ts';
import { ProbeError } from '../../../exporter/kernel/loader.ts';
import type { RunningCore } from '../../../exporter/probes/core.ts';
import type { AnyProbe, Probe, ProbeContext, RunningProbe } from '../../../exporter/probes/probe.ts';

/** What happened, in order. */
let events: string[];
beforeEach(() => {
  events = [];
});

const CONTEXT = {} as Omit<ProbeContext, 'shared' | 'core' | 'stream'>;

const noCore = (): never => {
  throw new Error('no probe asked for the core');
};

function running(name: string, lost: Record<string, number> = {}): RunningProbe {
  const close = () => void events.push(`${name} closes`);
  return { sources: [], objects: [], problems: () => [`${name} is old`], lost: () => lost, close };
}

type Start = Probe['start'];

function define(name: string, needs: readonly string[] = [], start: Start = () => running(name)): AnyProbe {
  const probe: Probe = {
    start: (context, settings) => {
      events.push(`${name} starts`);
      return start(context, settings);
    },
  };
  return {
    name,
    title: name,
    needs,
    objects: [],
    series: 'expire',
    settings: z.object({ enabled: z.boolean() }),
    metrics: [],
    load: async () => ({ probe }),
  };
}

const refuse = (message: string) => (): never => {
  throw new ProbeError(message, [{ programs: ['p'], reason: 'p is not used.' }], '');
};

/** All probes are on, but for those that are named. */
function setOf(probes: readonly AnyProbe[], off: readonly string[] = []): ProbeSet {
  const settings = Object.fromEntries(probes.map(({ name }) => [name, { enabled: !off.includes(name) }]));
  return new ProbeSet(settings as never, probes);
}

const states = (set: ProbeSet) => Object.fromEntries(set.status().map(({ name, state }) => [name, state]));

describe('the order', () => {
  test('is that of the list, each after what it needs', () => {
    const probes = [define('a', ['c']), define('b'), define('c', ['d']), define('d')];
    expect(startOrder(probes).map(({ name }) => name)).toEqual(['d', 'c', 'a', 'b']);
  });

  test('of probes that need one another, or one that is not there, is a mistake', () => {
    expect(() => startOrder([define('a', ['b']), define('b', ['a'])])).toThrow('a → b → a');
    expect(() => startOrder([define('a', ['b'])])).toThrow('probe a needs "b", which is no probe');
  });
});

describe('starting', () => {
  test('starts what is enabled and loads nothing else', async () => {
    const set = setOf([define('a'), define('b')], ['b']);
    await set.start(CONTEXT, noCore);
    expect(events).toEqual(['a starts']);
    expect(states(set)).toEqual({ a: 'attached', b: 'disabled' });
  });

  test('what has to wait for the last begins when all have started, or failed', async () => {
    const waits = () => ({ ...running('a'), begin: () => void events.push('a begins') });
    await setOf([define('a', [], waits), define('b'), define('c', [], refuse('No hook.'))]).start(
      CONTEXT,
      noCore,
    );
    expect(events).toEqual(['a starts', 'b starts', 'c starts', 'a begins']);
  });

  test('one that is refused says why, and the others go on', async () => {
    const set = setOf([define('a', [], refuse('No hook.')), define('b')]);
    await set.start(CONTEXT, noCore);
    expect(set.status()[0]).toEqual({
      name: 'a',
      state: 'failed',
      reason: 'No hook.',
      hooks: [
        {
          purpose: 'required',
          programs: [],
          hooks: [],
          skipped: [{ programs: ['p'], reason: 'p is not used.' }],
        },
      ],
    });
    expect(states(set).b).toBe('attached');
  });

  test('one whose need is off or was refused does not start, and says so in a sentence', async () => {
    const set = setOf(
      [define('a'), define('b', [], refuse('No.')), define('c', ['a']), define('d', ['b']), define('e')],
      ['a'],
    );
    await set.start(CONTEXT, noCore);
    expect(events).toEqual(['b starts', 'e starts']);
    const reasons = Object.fromEntries(set.status().map(({ name, reason }) => [name, reason]));
    expect(reasons.c).toBe('it needs the probe a, which is off: set probes.a.enabled');
    expect(reasons.d).toBe('it needs the probe b, which does not run');
  });

  test('rejects where some are refused and none is left', async () => {
    await expect(
      setOf([define('a', [], refuse('No.')), define('b')], ['b']).start(CONTEXT, noCore),
    ).rejects.toThrow('No.');
  });

  test('does nothing where all are off', async () => {
    const set = setOf([define('a')], ['a']);
    await set.start(CONTEXT, noCore);
    expect(set.running).toEqual([]);
  });

  test('rejects with what no probe should throw', async () => {
    const broken = define('a', [], () => {
      throw new TypeError('a bug');
    });
    await expect(setOf([broken, define('b')]).start(CONTEXT, noCore)).rejects.toThrow(TypeError);
  });
});

describe('what probes share', () => {
  test('starts once, at the first call, and is closed after those that use it', async () => {
    const made: unknown[] = [];
    const start: Start = ({ shared }) => {
      const startStream = () => {
        events.push('stream starts');
        return running('stream');
      };
      made.push(shared('stream', startStream));
      return running('probe');
    };
    const set = setOf([define('a', [], start), define('b', [], start)]);
    await set.start(CONTEXT, noCore);
    expect(made[0]).toBe(made[1]);
    expect(set.running.map(({ name }) => name)).toEqual(['stream', 'a', 'b']);
    expect(states(set)).toEqual({ stream: 'attached', a: 'attached', b: 'attached' });
    await set.close();
    await set.close();
    expect(events).toEqual([
      'a starts',
      'stream starts',
      'b starts',
      'probe closes',
      'probe closes',
      'stream closes',
    ]);
  });

  test('is told what the settings of all that are on want of it, whichever starts it', async () => {
    let told: unknown;
    const first = define('a', [], ({ stream }) => {
      told = stream;
      return running('a');
    });
    const wanting = (name: string, provider: 'kprobe' | 'fentry') => ({
      ...define(name),
      stream: () => ({ provider }),
    });
    const set = setOf([first, wanting('b', 'kprobe'), wanting('c', 'fentry')], ['c']);
    await set.start(CONTEXT, noCore);
    expect(told).toEqual({ provider: 'kprobe' });
  });

  test('that is refused is tried once, and refuses all that use it', async () => {
    let tries = 0;
    const start: Start = ({ shared }) => {
      shared('stream', () => {
        tries++;
        return refuse('No payload.')();
      });
      return running('probe');
    };
    const set = setOf([define('a', [], start), define('b', [], start), define('c')]);
    await set.start(CONTEXT, noCore);
    expect(tries).toBe(1);
    expect(set.status().map(({ state, reason }) => [state, reason])).toEqual([
      ['failed', 'No payload.'],
      ['failed', 'No payload.'],
      ['attached', undefined],
    ]);
  });
});

test('losses add up by stage, problems are all told', async () => {
  const probes = [
    define('a', [], () => running('a', { full: 1, late: 2 })),
    define('b', [], () => running('b', { full: 10 })),
  ];
  const set = setOf(probes);
  await set.start(CONTEXT, noCore);
  expect(set.lost()).toEqual({ full: 11, late: 2 });
  expect(set.problems()).toEqual(['a is old', 'b is old']);
});

describe('the core', () => {
  const core = () =>
    ({ ...running('core', { edge_table_full: 3 }), table: 'edges' }) as unknown as RunningCore;
  const asks: Start = (context) => {
    expect(context.core.table).toBe('edges');
    return running('probe');
  };

  test('is started by the first probe that asks, with what all that are enabled want of it', async () => {
    const wanted: string[][] = [];
    const wants = { ...define('b', [], asks), core: ['tcp_totals'] as const };
    const set = setOf([define('a', [], asks), wants]);
    await set.start(CONTEXT, (features) => {
      wanted.push([...features]);
      return core();
    });
    expect(wanted).toEqual([['tcp_totals']]);
    expect(set.running.map(({ name }) => name)).toEqual(['core', 'a', 'b']);
    expect(set.lost()).toEqual({ edge_table_full: 3 });
  });

  test('does without what only a disabled probe wants, and is not there where none asks', async () => {
    const wants = { ...define('b', [], asks), core: ['tcp_totals'] as const };
    const set = setOf([define('a', [], asks), wants], ['b']);
    await set.start(CONTEXT, (features) => {
      expect([...features]).toEqual([]);
      return core();
    });
    const alone = setOf([define('a')]);
    await alone.start(CONTEXT, noCore);
    expect(states(alone)).toEqual({ a: 'attached' });
  });

  test('that is refused is refused to each that asks; the others go on', async () => {
    const set = setOf([define('a', [], asks), define('b', [], asks), define('c')]);
    await set.start(CONTEXT, refuse('No sockets.'));
    expect(states(set)).toEqual({ a: 'failed', b: 'failed', c: 'attached' });
  });
});
