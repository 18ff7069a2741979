// A real gRPC server speaking OTLP, for tests: it decodes with protobufjs from its own .proto, keeps every span, and
// answers as the test says (accept, refuse, be slow, take a part).

import { fileURLToPath } from 'node:url';
import {
  Metadata,
  Server,
  ServerCredentials,
  type ServerUnaryCall,
  type ServiceDefinition,
  type sendUnaryData,
  type status,
} from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

export interface ReceivedSpan {
  traceId: string;
  spanId: string;
  parentSpanId: string;
  traceState: string;
  flags: number;
  name: string;
  /** OTLP's SpanKind: 2 server, 3 client. */
  kind: number;
  start: bigint;
  end: bigint;
  attributes: Record<string, string | number | boolean>;
  links: { traceId: string; spanId: string }[];
  /** OTLP's Status.code: 0 unset, 1 ok, 2 error. */
  statusCode: number;
  statusMessage: string;
  scope: { name: string; version: string };
  resource: Record<string, string | number | boolean>;
  /** Index of the request and of the ResourceSpans in it. */
  request: number;
  resourceIndex: number;
}

/** What to do with one request. Spans of refused requests are not kept. */
export type Answer =
  | { kind: 'accept'; delayMillis?: number }
  /** Takes all but the first `rejected` spans. */
  | { kind: 'partial'; rejected: number; message: string }
  | { kind: 'fail'; code: status; details: string; retryInfo?: Buffer; delayMillis?: number }
  | { kind: 'hang' };

type Policy = (request: number, spans: number) => Answer;

interface KeyValue {
  key: string;
  value: {
    value: string;
    stringValue?: string;
    intValue?: string;
    doubleValue?: number;
    boolValue?: boolean;
  };
}

const proto = loadSync(fileURLToPath(new URL('otlp_trace.proto', import.meta.url)), {
  longs: String,
  defaults: true,
  oneofs: true,
});

function serviceDefinition(): ServiceDefinition {
  const definition = proto['opentelemetry.proto.collector.trace.v1.TraceService'];
  if (definition === undefined || 'format' in definition) throw new Error('no TraceService in the .proto');
  return definition as ServiceDefinition;
}

function plain(attributes: KeyValue[]): Record<string, string | number | boolean> {
  const result: Record<string, string | number | boolean> = {};
  for (const { key, value } of attributes) {
    if (Object.hasOwn(result, key)) throw new Error(`attribute ${key} twice`);
    result[key] = value.stringValue ?? value.boolValue ?? Number(value.intValue ?? value.doubleValue);
  }
  return result;
}

interface Ids {
  traceId: Buffer;
  spanId: Buffer;
}

/** What protobufjs makes of a request of the .proto. */
interface Request {
  resourceSpans: {
    resource: { attributes: KeyValue[] };
    scopeSpans: {
      scope: { name: string; version: string };
      spans: (Ids & {
        parentSpanId: Buffer;
        traceState: string;
        flags: number;
        name: string;
        kind: number;
        startTimeUnixNano: string;
        endTimeUnixNano: string;
        attributes: KeyValue[];
        links: Ids[];
        status: { code: number; message: string } | null;
      })[];
    }[];
  }[];
}

const hexIds = (ids: Ids) => ({ traceId: ids.traceId.toString('hex'), spanId: ids.spanId.toString('hex') });

function readRequest(message: Request, request: number): ReceivedSpan[] {
  const spans: ReceivedSpan[] = [];
  for (const [resourceIndex, group] of message.resourceSpans.entries()) {
    const resource = plain(group.resource.attributes);
    for (const { scope, spans: scoped } of group.scopeSpans)
      for (const span of scoped)
        spans.push({
          ...hexIds(span),
          parentSpanId: span.parentSpanId.toString('hex'),
          traceState: span.traceState,
          flags: span.flags,
          name: span.name,
          kind: span.kind,
          start: BigInt(span.startTimeUnixNano),
          end: BigInt(span.endTimeUnixNano),
          attributes: plain(span.attributes),
          links: span.links.map(hexIds),
          statusCode: span.status?.code ?? 0,
          statusMessage: span.status?.message ?? '',
          scope: { name: scope.name, version: scope.version },
          resource,
          request,
          resourceIndex,
        });
  }
  return spans;
}

type Call = ServerUnaryCall<Request, unknown>;

export class Receiver {
  readonly spans: ReceivedSpan[] = [];
  /** Metadata of each request. */
  readonly headers: Metadata[] = [];
  requests = 0;
  /** Requests being answered now, and the most there were at once. */
  active = 0;
  maxActive = 0;
  policy: Policy = () => ({ kind: 'accept' });
  port = 0;
  #server: Server | undefined;
  readonly #credentials: ServerCredentials;

  constructor(credentials: ServerCredentials = ServerCredentials.createInsecure()) {
    this.#credentials = credentials;
  }

  get endpoint(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Listens; the second start takes the first one's port again. */
  async start(): Promise<this> {
    const server = new Server({ 'grpc.max_receive_message_length': 64 * 1024 * 1024 });
    const service = serviceDefinition();
    server.addService(service, {
      Export: (call: Call, done: sendUnaryData<unknown>) => this.#answer(call, done),
    });
    this.port = await new Promise<number>((resolve, reject) => {
      server.bindAsync(`127.0.0.1:${this.port}`, this.#credentials, (error, port) =>
        error === null ? resolve(port) : reject(error),
      );
    });
    this.#server = server;
    return this;
  }

  /** Cuts every connection; nobody listens on the port afterwards. */
  stop(): void {
    this.#server?.forceShutdown();
    this.#server = undefined;
    this.active = 0;
  }

  #answer(call: Call, done: sendUnaryData<unknown>): void {
    const request = this.requests++;
    this.headers.push(call.metadata);
    this.active++;
    this.maxActive = Math.max(this.maxActive, this.active);
    const spans = readRequest(call.request, request);
    const answer = this.policy(request, spans.length);
    if (answer.kind === 'hang') return;
    const finish = () => {
      this.active--;
      if (call.cancelled) return;
      if (answer.kind === 'accept') {
        this.spans.push(...spans);
        done(null, {});
      } else if (answer.kind === 'partial') {
        this.spans.push(...spans.slice(answer.rejected));
        done(null, { partialSuccess: { rejectedSpans: answer.rejected, errorMessage: answer.message } });
      } else {
        const metadata = new Metadata();
        if (answer.retryInfo !== undefined) metadata.set('grpc-status-details-bin', answer.retryInfo);
        done({ code: answer.code, details: answer.details, metadata });
      }
    };
    const delay = 'delayMillis' in answer ? (answer.delayMillis ?? 0) : 0;
    if (delay > 0) setTimeout(finish, delay);
    else finish();
  }
}
