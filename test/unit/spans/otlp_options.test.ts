// Transport options: TLS, endpoints, headers; and what a queued span holds in memory.

import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { ServerCredentials } from '@grpc/grpc-js';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { createOtlpTransport, parseEndpoint } from '../../../exporter/telemetry/spans/otlp_transport.ts';
import { createSpanPipeline, type PipelineOptions } from '../../../exporter/telemetry/spans/pipeline.ts';
import { createSynthesiser } from '../../../exporter/telemetry/spans/synthesiser.ts';
import { Receiver } from './receiver.ts';
import { record } from './records.ts';

const RESOURCE = { host: 'node-1', agentVersion: '1.2.3' };
const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const PARENT = '00f067aa0ba902b7';

describe('TLS', () => {
  const directory = mkdtempSync(join(tmpdir(), 'knp-spans-tls-'));
  const file = (name: string) => join(directory, name);
  const read = (name: string) => readFileSync(file(name));
  const openssl = (...args: string[]) => execFileSync('openssl', args, { cwd: directory, stdio: 'pipe' });
  const transport = (endpoint: string, tls?: Parameters<typeof createOtlpTransport>[0]['tls']) =>
    createOtlpTransport({ endpoint, timeoutMillis: 3000, tls });
  const { span } = createSynthesiser(RESOURCE).synthesise(record());
  let receiver: Receiver;

  beforeEach(async () => {
    openssl(
      'req',
      '-x509',
      '-newkey',
      'ec',
      '-pkeyopt',
      'ec_paramgen_curve:P-256',
      '-nodes',
      '-days',
      '2',
      '-subj',
      '/CN=test ca',
      '-keyout',
      'ca.key',
      '-out',
      'ca.pem',
    );
    for (const name of ['server', 'client']) {
      openssl(
        'req',
        '-newkey',
        'ec',
        '-pkeyopt',
        'ec_paramgen_curve:P-256',
        '-nodes',
        '-subj',
        `/CN=${name}.test`,
        '-addext',
        `subjectAltName=DNS:${name}.test`,
        '-keyout',
        `${name}.key`,
        '-out',
        `${name}.csr`,
      );
      openssl(
        'x509',
        '-req',
        '-in',
        `${name}.csr`,
        '-CA',
        'ca.pem',
        '-CAkey',
        'ca.key',
        '-days',
        '2',
        '-copy_extensions',
        'copy',
        '-out',
        `${name}.pem`,
      );
    }
    const pair = [{ private_key: read('server.key'), cert_chain: read('server.pem') }];
    receiver = await new Receiver(ServerCredentials.createSsl(read('ca.pem'), pair, true)).start();
  });
  afterEach(() => {
    receiver.stop();
    rmSync(directory, { recursive: true, force: true });
  });

  it('mutual TLS with own certificate authority; without the certificates nothing passes', async () => {
    const endpoint = `https://127.0.0.1:${receiver.port}`;
    const full = {
      ca: read('ca.pem'),
      cert: read('client.pem'),
      key: read('client.key'),
      serverName: 'server.test',
    };
    const attempts = [
      full,
      { ...full, cert: undefined, key: undefined },
      { ...full, ca: undefined },
      { ...full, serverName: 'wrong.test' },
    ];
    const outcomes: string[] = [];
    for (const tls of attempts) {
      const tried = transport(endpoint, tls);
      outcomes.push((await tried.prepare([span]).send()).outcome);
      tried.close();
    }
    expect(outcomes).toEqual(['delivered', 'retryable', 'retryable', 'retryable']);
    expect(receiver.spans).toHaveLength(1);
    expect(() => transport(endpoint, { ...full, key: undefined })).toThrow(
      'both the certificate and its key',
    );
  });
});

describe('options', () => {
  it.each([
    ['http://collector:4317', false, 'dns:collector:4317', false],
    ['http://collector', false, 'dns:collector:4317', false],
    ['collector:4317', false, 'dns:collector:4317', false],
    ['https://collector:443', false, 'dns:collector:443', true],
    ['https://collector:443', true, 'dns:collector:443', false],
    ['http://collector:80/', false, 'dns:collector:80', false],
    ['http://[::1]:4317', false, 'dns:[::1]:4317', false],
  ])('endpoint %s, insecure %s', (endpoint, insecure, target, tls) => {
    expect(parseEndpoint(endpoint, insecure)).toEqual({ target, tls });
  });

  it.each([
    ['', 'is not a URL'],
    ['grpc://collector:4317', 'must start with http:// or https://'],
    ['http://u:secret@collector', 'must not hold a user name or password'],
    ['http://collector:4318/v1/traces', 'must not have a path'],
  ])('endpoint %j is refused', (endpoint, message) => {
    expect(() => parseEndpoint(endpoint)).toThrow(message);
    expect(() => parseEndpoint(endpoint)).not.toThrow('secret');
  });

  it('a bad header is named without its value', () => {
    const make = (headers: Record<string, string>) => () =>
      createOtlpTransport({ endpoint: 'http://x', timeoutMillis: 1, headers });
    expect(make({ 'bad header': 'secret' })).toThrow('OTLP header "bad header" is not a valid gRPC header');
    expect(make({ token: 'sec\nret' })).toThrow('OTLP header "token"');
    expect(make({ token: 'sec\nret' })).not.toThrow('sec');
  });
});

it('a queued span holds no more than its estimate', () => {
  setFlagsFromString('--expose-gc');
  const collectGarbage = runInNewContext('gc') as () => void;
  const transport = { prepare: () => ({ bytes: 0, send: () => new Promise<never>(() => {}) }), close() {} };
  const options: PipelineOptions = {
    queueSpans: 50_000,
    queueBytes: 1e9,
    batchSpans: 1e6,
    batchBytes: 1e9,
    delayMillis: 1e6,
    concurrency: 1,
    retryInitialMillis: 1,
    retryMaxMillis: 1,
    retryTotalMillis: 1,
  };
  const pipeline = createSpanPipeline(transport, options);
  const synthesiser = createSynthesiser(RESOURCE);
  const make = (i: number) =>
    record({
      exactTarget: `/users/${i}/${'x'.repeat(300)}`,
      context: { traceId: TRACE, parentSpanId: PARENT, flags: 1, tracestate: `a=${i}` },
    });
  const heap = () => {
    collectGarbage();
    return process.memoryUsage().heapUsed;
  };
  const before = heap();
  for (let i = 0; i < 50_000; i++) {
    const { span, bytes } = synthesiser.synthesise(make(i));
    pipeline.enqueue(span, bytes);
  }
  const held = heap() - before;
  const { queued, queuedBytes } = pipeline.stats();
  expect(queued).toBe(50_000);
  expect(held).toBeGreaterThan(50_000 * 500);
  expect(held).toBeLessThan(queuedBytes);
});
