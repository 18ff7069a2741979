import { SpanKind, SpanStatusCode } from '@opentelemetry/api';
import { ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import { describe, expect, it } from 'vitest';
import type { HttpDetail } from '../../../exporter/probes/http/requests.ts';
import { createSynthesiser } from '../../../exporter/telemetry/spans/synthesiser.ts';
import type { SpanRecord } from '../../../exporter/telemetry/spans/types.ts';
import { CART, NGINX, record, SHOP } from './records.ts';

const TRACE = '4bf92f3577b34da6a3ce929d0e0e4736';
const OTHER_TRACE = '0af7651916cd43dd8448eb211c80319c';
const PARENT = '00f067aa0ba902b7';
const SERVER_SPAN = 'b7ad6b7169203331';
const OPTIONS = { host: 'node-1', agentVersion: '1.2.3' };

function span(changes: Partial<SpanRecord<HttpDetail>> = {}) {
  return createSynthesiser(OPTIONS).synthesise(record(changes)).span;
}

function place(changes: Partial<SpanRecord<HttpDetail>>) {
  const made = span(changes);
  const context = made.spanContext();
  return {
    traceId: context.traceId,
    spanId: context.spanId,
    flags: context.traceFlags,
    parent: made.parentSpanContext?.spanId,
    remote: made.parentSpanContext?.isRemote ?? false,
    links: made.links.map((link) => link.context.spanId),
    state: context.traceState?.serialize(),
  };
}

describe('attributes by semantic conventions', () => {
  it('of a server span', () => {
    const made = span();
    expect(made.name).toBe('GET /users/{id}');
    expect(made.kind).toBe(SpanKind.SERVER);
    expect(made.attributes).toEqual({
      'http.request.method': 'GET',
      'http.route': '/users/{id}',
      'http.response.status_code': 200,
      'url.scheme': 'http',
      'url.path': '/users/42',
      'server.address': '10.0.0.7',
      'server.port': 8080,
      'client.address': '10.0.0.3',
      'client.port': 43210,
      'network.protocol.name': 'http',
      'network.protocol.version': '1.1',
      'http.request.body.size': 0,
      'http.response.body.size': 1234,
      'knp.http.time_to_first_byte': 0.100000001,
      'knp.sampling.reason': 'share',
    });
    expect(made.startTime).toEqual([1_795_442_400, 123_456_789]);
    expect(made.endTime).toEqual([1_795_442_400, 373_456_790]);
    expect(made.duration).toEqual([0, 250_000_001]);
  });

  it('of a client span', () => {
    const made = span({ kind: 'client', serverAddress: '2001:db8::7' });
    expect(made.kind).toBe(SpanKind.CLIENT);
    expect(made.attributes).toMatchObject({
      'url.template': '/users/{id}',
      'url.full': 'http://[2001:db8::7]:8080/users/42',
      'server.address': '2001:db8::7',
      'peer.service': 'cart',
      'service.peer.name': 'cart',
      'service.peer.namespace': 'prod',
    });
    expect(made.attributes).not.toHaveProperty('http.route');
    expect(made.attributes).not.toHaveProperty('client.address');
  });

  it('an external peer is given no service name', () => {
    const server = { name: 'external', namespace: '', kind: 'External' };
    expect(span({ kind: 'client', server }).attributes).not.toHaveProperty('peer.service');
  });

  it('the usual port is left out of url.full', () => {
    const urls = [80, 443].map(
      (serverPort) =>
        span({ kind: 'client', serverPort, detail: { scheme: serverPort === 443 ? 'https' : 'http' } })
          .attributes,
    );
    expect(urls.map((each) => each['url.full'])).toEqual([
      'http://10.0.0.7/users/42',
      'https://10.0.0.7/users/42',
    ]);
  });

  it('what is unknown is left out', () => {
    const made = span({
      target: undefined,
      exactTarget: undefined,
      status: undefined,
      clientAddress: undefined,
      requestBytes: undefined,
      responseBytes: undefined,
      detail: {},
    });
    expect(made.name).toBe('GET');
    expect(Object.keys(made.attributes).sort()).toEqual([
      'http.request.method',
      'knp.sampling.reason',
      'network.protocol.name',
      'server.address',
      'server.port',
      'url.scheme',
    ]);
  });

  it.each(['PROPFIND', 'get', ''])('method %j becomes _OTHER with the original beside it', (method) => {
    const made = span({ operation: method });
    expect(made.attributes).toMatchObject({
      'http.request.method': '_OTHER',
      'http.request.method_original': method,
    });
    expect(made.name).toBe('HTTP /users/{id}');
  });

  it.each(['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'])(
    '%s is known',
    (method) => {
      expect(span({ operation: method }).attributes['http.request.method']).toBe(method);
    },
  );

  it.each(['/a?password=secret', '/a#frag', '/a?b#c?d'])('query and fragment of %s never leave', (path) => {
    expect(span({ exactTarget: path }).attributes['url.path']).toBe('/a');
    expect(span({ kind: 'client', exactTarget: path }).attributes['url.full']).toBe('http://10.0.0.7:8080/a');
  });

  it('hostile texts are bounded and made printable', () => {
    const made = span({
      operation: `X\u001b[31m${'A'.repeat(1000)}`,
      exactTarget: `/\ud800\u0000\r\n${'b'.repeat(100_000)}`,
      target: `/${'c'.repeat(100_000)}`,
      broken: 'd'.repeat(100_000),
    });
    const text = JSON.stringify([made.name, made.attributes, made.status]);
    // biome-ignore lint/suspicious/noControlCharactersInRegex: what must not be there
    expect(/[\u0000-\u001f\u007f]/.test(String(made.attributes['url.path']))).toBe(false);
    expect(String(made.attributes['url.path']).isWellFormed()).toBe(true);
    expect(made.attributes['http.request.method_original']).toMatch(/^X\ufffd\[31mA{58}$/);
    expect(text.length).toBeLessThan(4500);
  });

  it('an end before the start becomes a duration of zero', () => {
    expect(span({ endUnixNano: 5n }).duration).toEqual([0, 0]);
    expect(span({ startUnixNano: -1n, endUnixNano: -2n }).startTime).toEqual([0, 0]);
  });
});

describe('status', () => {
  it.each([
    ['server', 200, SpanStatusCode.UNSET, undefined],
    ['server', 302, SpanStatusCode.UNSET, undefined],
    ['server', 404, SpanStatusCode.UNSET, undefined],
    ['server', 499, SpanStatusCode.UNSET, undefined],
    ['server', 500, SpanStatusCode.ERROR, '500'],
    ['server', 503, SpanStatusCode.ERROR, '503'],
    ['client', 200, SpanStatusCode.UNSET, undefined],
    ['client', 399, SpanStatusCode.UNSET, undefined],
    ['client', 404, SpanStatusCode.ERROR, '404'],
    ['client', 500, SpanStatusCode.ERROR, '500'],
  ] as const)('%s span with %i', (kind, status, code, errorType) => {
    const made = span({ kind, status });
    expect(made.status).toEqual({ code });
    expect(made.attributes['error.type']).toBe(errorType);
  });

  it('a broken exchange is an error that says why', () => {
    const made = span({ status: undefined, broken: 'connection_reset' });
    expect(made.status).toEqual({ code: SpanStatusCode.ERROR, message: 'connection_reset' });
    expect(made.attributes['error.type']).toBe('connection_reset');
    expect(made.attributes).not.toHaveProperty('http.response.status_code');
  });
});

describe('place in the trace', () => {
  const context = { traceId: TRACE, parentSpanId: PARENT, flags: 1, tracestate: 'rojo=1,congo=2' };
  const parent = { traceId: OTHER_TRACE, spanId: SERVER_SPAN };

  it("a server span's parent is in the caller", () => {
    expect(place({ context })).toMatchObject({
      traceId: TRACE,
      parent: PARENT,
      remote: true,
      flags: 1,
      state: 'rojo=1,congo=2',
      links: [],
    });
  });

  it("a client span's parent is the caller's own span", () => {
    expect(place({ kind: 'client', context })).toMatchObject({
      traceId: TRACE,
      parent: PARENT,
      remote: false,
    });
  });

  it('a kept request is sampled, whatever the caller decided; unknown flags stay behind', () => {
    expect(place({ context: { ...context, flags: 0x00 } }).flags).toBe(1);
    expect(place({ context: { ...context, flags: 0xfe } }).flags).toBe(3);
  });

  it('a client call under a known server span is its child', () => {
    expect(place({ kind: 'client', parent })).toMatchObject({
      traceId: OTHER_TRACE,
      parent: SERVER_SPAN,
      remote: false,
      links: [],
    });
  });

  it('a proxy that passes the received context on does not hide that', () => {
    const passedOn = { traceId: TRACE, spanId: SERVER_SPAN, parentSpanId: PARENT };
    expect(place({ kind: 'client', context, parent: passedOn })).toMatchObject({
      traceId: TRACE,
      parent: SERVER_SPAN,
      state: 'rojo=1,congo=2',
      links: [],
    });
  });

  it("an application's own span between the two stays between them", () => {
    const own = { traceId: TRACE, spanId: SERVER_SPAN, parentSpanId: 'aaaaaaaaaaaaaaaa' };
    expect(place({ kind: 'client', context, parent: own })).toMatchObject({ parent: PARENT, links: [] });
  });

  it("an application's own trace keeps the server span as a link", () => {
    expect(place({ kind: 'client', context, parent })).toMatchObject({
      traceId: TRACE,
      parent: PARENT,
      links: [SERVER_SPAN],
    });
  });

  it('a server span has no server span above it', () => {
    expect(place({ parent }).parent).toBeUndefined();
  });

  it('without any context it starts a trace with the ids that the probe chose, or random ones', () => {
    expect(place({ traceId: TRACE, spanId: SERVER_SPAN })).toMatchObject({
      traceId: TRACE,
      spanId: SERVER_SPAN,
      parent: undefined,
      flags: 1,
    });
    const ids = Array.from({ length: 10_000 }, () => place({}));
    expect(new Set(ids.map((each) => each.traceId)).size).toBe(10_000);
    expect(new Set(ids.map((each) => each.spanId)).size).toBe(10_000);
    expect(
      ids.every((each) => /^[0-9a-f]{32}$/.test(each.traceId) && /^[0-9a-f]{16}$/.test(each.spanId)),
    ).toBe(true);
  });

  it.each([
    { traceId: '0'.repeat(32), parentSpanId: PARENT, flags: 1 },
    { traceId: TRACE, parentSpanId: '0'.repeat(16), flags: 1 },
    { traceId: TRACE.toUpperCase(), parentSpanId: PARENT, flags: 1 },
    { traceId: `${TRACE}00`, parentSpanId: PARENT, flags: 1 },
    { traceId: '', parentSpanId: '', flags: 1 },
  ])('an invalid context %o is ignored', (bad) => {
    expect(place({ context: bad }).parent).toBeUndefined();
    expect(place({ context: bad }).traceId).toMatch(/^[0-9a-f]{32}$/);
    expect(
      place({ kind: 'client', parent: { traceId: bad.traceId, spanId: bad.parentSpanId } }).parent,
    ).toBeUndefined();
  });

  it('an invalid tracestate is dropped, the parent stays', () => {
    expect(place({ context: { ...context, tracestate: 'rojo=1\r\nx' } })).toMatchObject({
      parent: PARENT,
      state: undefined,
    });
  });
});

describe('resources', () => {
  it('of a Kubernetes workload', () => {
    expect(span({ kind: 'client' }).resource.attributes).toEqual({
      'service.name': 'shop',
      'service.namespace': 'prod',
      'service.instance.id': 'prod.shop-7d9f-x2x',
      'host.name': 'node-1',
      'cloud.availability_zone': 'eu-1a',
      'k8s.namespace.name': 'prod',
      'k8s.node.name': 'node-1',
      'k8s.deployment.name': 'shop',
      'k8s.pod.name': 'shop-7d9f-x2x',
      'knp.workload.kind': 'Deployment',
      'telemetry.distro.name': 'kubenetprobe',
      'telemetry.distro.version': '1.2.3',
    });
  });

  it('of a systemd unit', () => {
    expect(span({ server: NGINX }).resource.attributes).toEqual({
      'service.name': 'nginx.service',
      'service.instance.id': 'node-1.nginx.service',
      'host.name': 'node-1',
      'knp.workload.kind': 'Unit',
      'telemetry.distro.name': 'kubenetprobe',
      'telemetry.distro.version': '1.2.3',
    });
  });

  it('a workload kind that is a property of every object makes no attribute', () => {
    const server = { name: 'x', namespace: 'n', kind: 'constructor' };
    expect(Object.values(span({ server }).resource.attributes).filter((value) => value === 'x')).toEqual([
      'x',
    ]);
  });

  it('one object per workload, bounded, the longest unused goes first', () => {
    const synthesiser = createSynthesiser({ ...OPTIONS, capacity: 3 });
    const resourceOf = (name: string) =>
      synthesiser.synthesise(record({ server: { ...CART, name } })).span.resource;
    const [a, b] = [resourceOf('a'), resourceOf('b')];
    expect(resourceOf('a')).toBe(a);
    expect(b).not.toBe(a);
    resourceOf('c');
    resourceOf('a');
    resourceOf('d');
    expect(synthesiser.resources).toBe(3);
    expect(resourceOf('a')).toBe(a);
    expect(resourceOf('b')).not.toBe(b);
    for (let i = 0; i < 1000; i++) resourceOf(`w${i}`);
    expect(synthesiser.resources).toBe(3);
  });

  it('names that concatenate alike do not share one', () => {
    const synthesiser = createSynthesiser(OPTIONS);
    const first = synthesiser.synthesise(record({ server: { name: 'b', namespace: 'a', kind: 'c' } })).span;
    const second = synthesiser.synthesise(record({ server: { name: 'cb', namespace: 'a', kind: '' } })).span;
    expect(first.resource).not.toBe(second.resource);
  });
});

it('the byte estimate is never below what is sent', () => {
  const synthesiser = createSynthesiser(OPTIONS);
  for (const changes of [
    {},
    { exactTarget: `/${'ü'.repeat(2000)}` },
    { kind: 'client' as const, client: SHOP },
  ]) {
    const { span: made, bytes } = synthesiser.synthesise(record(changes));
    const sent = ProtobufTraceSerializer.serializeRequest([made])?.length ?? 0;
    expect(sent).toBeGreaterThan(500);
    expect(bytes).toBeGreaterThanOrEqual(sent);
  }
});
