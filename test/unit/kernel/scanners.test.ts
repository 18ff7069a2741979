// What scanners make of /proc, and that a scan is bounded: counted in files read and turns of the event loop, not in time.
import { describe, expect, test } from 'vitest';
import { executableMappings, MappedFileScanner } from '../../../exporter/kernel/mapped_files.ts';
import { ProcessWalk } from '../../../exporter/kernel/process_walk.ts';

const MAPS = `00400000-00452000 r-xp 00000000 fd:00 173521      /usr/bin/dbus-daemon
00651000-00652000 r--p 00051000 fd:00 173521      /usr/bin/dbus-daemon
7f5c9c000000-7f5c9c021000 rw-p 00000000 00:00 0
7f5ca0028000-7f5ca01bd000 r-xp 00028000 fd:00 135870                     /usr/lib/libssl.so.3 (deleted)
7f5ca01bd000-7f5ca01be000 r-xp 00028000 fd:00 135870                     /usr/lib/libssl.so.3 (deleted)
7f5ca0400000-7f5ca0500000 r-xp 00000000 fd:00 135871                     /usr/lib/libssl.so.3
7f5ca0600000-7f5ca0700000 r-xs 00000000 00:01 1024                       /memfd:jit code (deleted)
7ffd5c1fe000-7ffd5c200000 r-xp 00000000 00:00 0                          [vdso]
7ffd5c1fe000-7ffd5c200000 r-xp 00000000 00:00 0
`;

describe('executableMappings', () => {
  test('gives each file once, by what it is: a deleted one apart from its successor', () => {
    const ssl = executableMappings(MAPS, (path) => path.endsWith('libssl.so.3'));
    expect(ssl).toEqual([
      { range: '7f5ca0028000-7f5ca01bd000', device: 'fd:00', inode: '135870', path: '/usr/lib/libssl.so.3' },
      { range: '7f5ca0400000-7f5ca0500000', device: 'fd:00', inode: '135871', path: '/usr/lib/libssl.so.3' },
    ]);
  });

  test('asks about files that are executed and nothing else', () => {
    const asked: string[] = [];
    executableMappings(MAPS, (path) => asked.push(path) < 0);
    expect(new Set(asked)).toEqual(
      new Set(['/usr/bin/dbus-daemon', '/usr/lib/libssl.so.3', '/memfd:jit code']),
    );
  });
});

/** One scan to its end; whether it ended a round. */
async function round(scanner: MappedFileScanner): Promise<boolean> {
  const scan = scanner.scan();
  for (;;) {
    const next = await scan.next();
    if (next.done) return next.value;
  }
}

describe('a scan of processes', () => {
  const processes = (count: number) => [
    'self',
    'cpuinfo',
    ...Array.from({ length: count }, (_, i) => `${i + 1}`),
  ];

  test('reads some in each turn of the event loop, so many in all, and goes on from there', async () => {
    const reads: string[][] = [];
    let turns = 0;
    const scanner = new MappedFileScanner({
      matches: () => true,
      links: 0,
      attach: () => [],
      walk: new ProcessWalk(100, async () => processes(250)),
      read: async (paths) => {
        reads.push([...paths]);
        await new Promise((resolve) => setImmediate(resolve));
        turns++;
        return paths.map(() => ({ code: '', text: '', more: false }));
      },
    });
    const rounds = [await round(scanner), await round(scanner), await round(scanner)];
    expect(rounds).toEqual([false, false, true]);
    expect(reads.flat()).toEqual(Array.from({ length: 250 }, (_, i) => `/proc/${i + 1}/maps`));
    expect(Math.max(...reads.map((paths) => paths.length))).toBe(32);
    expect(turns).toBe(4 + 4 + 2);
    expect(await round(scanner)).toBe(false);
    expect(reads[10]?.[0]).toBe('/proc/1/maps');
    expect(scanner.status().processes).toBe(250); // of the last complete round
  });

  test('counts what it may not read and what is too long; a process that has ended is neither', async () => {
    const answers = [
      { code: 'EACCES', text: '', more: false },
      { code: 'ENOENT', text: '', more: false },
      { code: 'ESRCH', text: '', more: false },
      { code: '', text: MAPS, more: true },
    ];
    const scanner = new MappedFileScanner({
      matches: () => false,
      links: 0,
      attach: () => [],
      walk: new ProcessWalk(100, async () => processes(4)),
      read: async () => answers,
    });
    expect(await round(scanner)).toBe(true);
    expect(scanner.status()).toEqual({ processes: 4, unreadable: 1, truncated: 1, unverified: 0 });
  });

  test('that fails is made again from the same place', async () => {
    const walk = new ProcessWalk(2, async () => processes(5));
    const first = await walk.portion();
    expect(await walk.portion()).toEqual(first);
    walk.passed(first);
    expect(await walk.portion()).toEqual({ pids: [3, 4], last: false });
    walk.passed(await walk.portion());
    const last = await walk.portion();
    expect(last).toEqual({ pids: [5], last: true });
    walk.passed(last);
    expect(await walk.portion()).toEqual(first);
  });
});
