// Lines for people: logs and the diagnosis hold nothing that a terminal acts on; addresses of agents as people give them.
import { mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createLog, prettyLine } from '../../../exporter/agent/log.ts';
import { agentUrl, localUrl } from '../../../exporter/cli/agent_client.ts';
import { type Diagnosis, renderDiagnosis } from '../../../exporter/cli/doctor_view.ts';

describe('logs', () => {
  test('a JSON line becomes one readable line, control characters harmless', () => {
    const json = JSON.stringify({
      level: 'warn',
      time: '2026-01-02T03:04:05.678Z',
      source: 'tcp',
      reason: 'a b\x1b[2J\nc\u202e',
      spans: 3,
      msg: 'lost\x9b',
    });
    expect(prettyLine(json)).toBe(
      '03:04:05.678 WARN  lost· source=tcp reason="a b\\u001b[2J\\nc·" spans=3\n',
    );
  });

  test.each([
    ['auto', false, /^\{"level":"info","time":"[^"]+","n":1,"msg":"hello"\}\n$/],
    ['auto', true, /^\d\d:\d\d:\d\d\.\d{3} INFO {2}hello n=1\n$/],
    ['json', true, /^\{"level":"info"/],
    ['pretty', false, /^\d\d:\d\d:\d\d\.\d{3} INFO/],
  ] as const)('format %s, on a terminal: %s', async (format, terminal, expected) => {
    const folder = mkdtempSync(join(tmpdir(), 'knp-cli-log-'));
    const file = join(folder, 'log');
    const fd = openSync(file, 'w');
    const log = createLog({ level: 'info', format }, fd, terminal);
    log.logger.debug('not written');
    log.logger.info({ n: 1 }, 'hello');
    await log.close();
    expect(readFileSync(file, 'utf8')).toMatch(expected);
    expect(log.lost()).toBe(0);
    rmSync(folder, { recursive: true });
  });
});

describe('the diagnosis', () => {
  const diagnosis: Diagnosis = {
    ok: false,
    source: 'agent at http://127.0.0.1:9464, process 7',
    checks: [
      {
        name: 'preflight',
        state: 'failed',
        detail: `a sentence too long for its column. ${'word '.repeat(60)}end`,
      },
      { name: 'kprobe', state: 'missing', detail: 'this kernel was built without kprobes' },
    ],
    agent: {
      version: '1',
      pid: 7,
      started_at: '',
      node_version: '',
      kernel_release: '',
      ready: true,
      probes: [
        { name: 'tcp', state: 'disabled', hooks: [] },
        {
          name: 'http',
          state: 'failed',
          reason: 'refused\x1b[2J',
          hooks: [
            {
              purpose: 'payload',
              programs: [],
              hooks: [],
              skipped: [{ programs: ['x'], reason: 'too large' }],
            },
          ],
        },
      ],
      maps: [{ name: 'edges', entries: 64, capacity: 64 }],
      lost: { edge_table_full: 1234, pairs: 0 },
      coverage_ratio: 0.5,
      problems: ['the edge table is full'],
    },
  };

  test('tables keep to the width, what to do is there in full', () => {
    const text = renderDiagnosis(diagnosis, 80);
    const lines = text.split('\n');
    expect(lines).toContain(`! preflight: ${diagnosis.checks[0]?.detail}`);
    expect(lines).toContain('! the edge table is full');
    expect(lines).toContain('lost since the start: edge_table_full 1.23k');
    expect(lines).toContain('open connections with an edge of their own: 50.0%');
    expect(text).toMatch(/^http +failed +payload +none +too large$/m);
    expect(text).toMatch(/^edges +64 +64 +100%$/m);
    expect(lines.at(-2)).toBe('something needs attention');
    for (const line of lines) if (!line.startsWith('!')) expect(line.length).toBeLessThanOrEqual(80);
    expect(text.replaceAll('\n', '')).not.toMatch(/\p{C}/u);
  });

  test('without an agent it ends after the checks', () => {
    const { agent: _, ...rest } = diagnosis;
    expect(renderDiagnosis({ ...rest, ok: true, checks: [] }, 80)).toMatch(/\nall is well\n$/);
  });
});

describe('the address of an agent', () => {
  test.each([
    ['0.0.0.0:9464', 'http://127.0.0.1:9464/'],
    [':9464', 'http://127.0.0.1:9464/'],
    ['[::1]:9000', 'http://[::1]:9000/'],
    ['10.0.0.7:80', 'http://10.0.0.7/'],
  ])('that listens on %s', (listen, url) => {
    expect(localUrl(listen).href).toBe(url);
  });

  test.each([
    ['10.0.0.7:9464', 'http://10.0.0.7:9464/'],
    ['http://a:1/metrics', 'http://a:1/'],
    ['http://a:1/proxy/metrics?x#y', 'http://a:1/proxy/'],
  ])('given as %s', (text, url) => {
    expect(agentUrl(text).href).toBe(url);
  });

  test.each(['https://a', 'ftp://a', 'http://', 'a b'])('%s is refused', (text) => {
    expect(() => agentUrl(text)).toThrow(
      `--from: found ${JSON.stringify(text)}; allowed: http://HOST:PORT or HOST:PORT`,
    );
  });
});
