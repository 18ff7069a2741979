// OTLP over gRPC with OpenTelemetry's own serialiser. Not through the stock `OTLPTraceExporter`, which is this
// serialiser and a gRPC client too, because it logs partial success instead of reporting it, serialises again at every
// try, and leaves the channel's reconnect backoff at up to two minutes. Used by the span sink.

import {
  type CallOptions,
  Client,
  type ClientUnaryCall,
  credentials as channelCredentials,
  compressionAlgorithms,
  Metadata,
  type ServiceError,
  status,
} from '@grpc/grpc-js';
import { ProtobufTraceSerializer } from '@opentelemetry/otlp-transformer';
import { retryDelayMillis } from './retry_info.ts';
import { cleanText } from './text.ts';
import type { SendResult, SpanTransport } from './transport.ts';

const EXPORT = '/opentelemetry.proto.collector.trace.v1.TraceService/Export';
const MESSAGE_LIMIT = 300;

/**
 * Codes that OTLP calls retryable (https://opentelemetry.io/docs/specs/otlp/#failures). RESOURCE_EXHAUSTED is only
 * retryable when the receiver adds RetryInfo.
 */
const RETRYABLE = new Set<number>([
  status.CANCELLED,
  status.DEADLINE_EXCEEDED,
  status.ABORTED,
  status.OUT_OF_RANGE,
  status.UNAVAILABLE,
  status.DATA_LOSS,
]);

/** PEM texts. Without `ca`, the system's (Node's) certificate authorities are trusted. */
export interface TlsOptions {
  readonly ca?: Buffer | undefined;
  /** Client certificate chain and key, for mutual TLS; both or none. */
  readonly cert?: Buffer | undefined;
  readonly key?: Buffer | undefined;
  /** Name to check the receiver's certificate against, where it differs from the endpoint's host. */
  readonly serverName?: string | undefined;
}

/** Headers, or what yields them anew for every try (rotated tokens); a rejection makes the try fail for now. */
export type HeaderSource =
  | Readonly<Record<string, string>>
  | (() => Promise<Readonly<Record<string, string>>>);

export interface OtlpTransportOptions {
  /** `http://host:port` or `https://host:port`; the port defaults to 4317. */
  readonly endpoint: string;
  /** Plain text even for `https`. */
  readonly insecure?: boolean | undefined;
  readonly tls?: TlsOptions | undefined;
  readonly headers?: HeaderSource | undefined;
  /** Deadline of one try. */
  readonly timeoutMillis: number;
  readonly compression?: 'none' | 'gzip' | undefined;
  readonly userAgent?: string | undefined;
}

/** gRPC target and whether to use TLS. Throws an Error that says what is wrong with the endpoint. */
export function parseEndpoint(endpoint: string, insecure = false): { target: string; tls: boolean } {
  const text = /^[a-z]+:\/\//i.test(endpoint) ? endpoint : `http://${endpoint}`;
  let url: URL;
  try {
    url = new URL(text);
  } catch {
    throw new Error(`OTLP endpoint "${endpoint}" is not a URL like http://collector:4317`);
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:')
    throw new Error(`OTLP endpoint "${endpoint}" must start with http:// or https://`);
  if (url.username !== '' || url.password !== '')
    throw new Error('OTLP endpoint must not hold a user name or password: send an authorization header');
  if ((url.pathname !== '/' && url.pathname !== '') || url.search !== '')
    throw new Error(`OTLP endpoint "${endpoint}" must not have a path: gRPC has its own`);
  // URL drops the scheme's default port; 80 and 443 are kept when written.
  const written = /:(\d+)\/?$/.exec(text)?.[1];
  return {
    target: `dns:${url.hostname}:${written ?? '4317'}`,
    tls: url.protocol === 'https:' && !insecure,
  };
}

function createMetadata(headers: Readonly<Record<string, string>>): Metadata {
  const metadata = new Metadata();
  for (const [name, value] of Object.entries(headers)) {
    try {
      metadata.set(name, value);
    } catch {
      // The value may be a secret: name the header only.
      throw new Error(`OTLP header "${name}" is not a valid gRPC header name and value`);
    }
  }
  return metadata;
}

function createCredentials(options: OtlpTransportOptions, tls: boolean) {
  if (!tls) return channelCredentials.createInsecure();
  const { ca, cert, key } = options.tls ?? {};
  if ((cert === undefined) !== (key === undefined))
    throw new Error('OTLP over TLS with a client certificate needs both the certificate and its key');
  return channelCredentials.createSsl(ca ?? null, key ?? null, cert ?? null);
}

function createClient(options: OtlpTransportOptions): Client {
  const { target, tls } = parseEndpoint(options.endpoint, options.insecure);
  return new Client(target, createCredentials(options, tls), {
    'grpc.primary_user_agent': options.userAgent ?? 'kubenetprobe',
    'grpc.default_compression_algorithm':
      options.compression === 'gzip' ? compressionAlgorithms.gzip : compressionAlgorithms.identity,
    // The default waits up to two minutes: a receiver that is back would be noticed after spans were given up.
    'grpc.initial_reconnect_backoff_ms': 500,
    'grpc.max_reconnect_backoff_ms': 5000,
    // Notices a receiver whose host vanished without a FIN. Receivers tolerate 5 minutes and more (gRPC A8).
    'grpc.keepalive_time_ms': 300_000,
    'grpc.keepalive_timeout_ms': 20_000,
    ...(options.tls?.serverName !== undefined && {
      'grpc.ssl_target_name_override': options.tls.serverName,
      'grpc.default_authority': options.tls.serverName,
    }),
  });
}

function failure(error: ServiceError): SendResult {
  const message = cleanText(`${status[error.code] ?? error.code}: ${error.details}`, MESSAGE_LIMIT);
  const detail = error.metadata?.get('grpc-status-details-bin')[0];
  const retryAfterMillis = detail instanceof Buffer ? retryDelayMillis(detail) : undefined;
  const retryable =
    RETRYABLE.has(error.code) || (error.code === status.RESOURCE_EXHAUSTED && retryAfterMillis !== undefined);
  return retryable ? { outcome: 'retryable', message, retryAfterMillis } : { outcome: 'refused', message };
}

function delivered(response: Buffer | undefined): SendResult {
  const nothing = { outcome: 'delivered', rejected: 0, message: '' } as const;
  if (response === undefined || response.length === 0) return nothing;
  try {
    const partial = ProtobufTraceSerializer.deserializeResponse(response).partialSuccess;
    const rejected = Number(partial?.rejectedSpans ?? 0);
    return {
      outcome: 'delivered',
      rejected: Number.isSafeInteger(rejected) && rejected > 0 ? rejected : 0,
      message: cleanText(partial?.errorMessage ?? '', MESSAGE_LIMIT),
    };
  } catch {
    // The status was OK: the receiver took the batch, whatever else it wrote.
    return {
      ...nothing,
      message: 'the receiver answered OK with a body that is no ExportTraceServiceResponse',
    };
  }
}

/** A transport to one OTLP/gRPC receiver. Connects at the first batch. Throws an Error when the options are wrong. */
export function createOtlpTransport(options: OtlpTransportOptions): SpanTransport {
  const { headers = {} } = options;
  // Wrong headers that do not change are an error at the start, not at every export.
  const fixed = typeof headers === 'function' ? undefined : createMetadata(headers);
  const client = createClient(options);
  const pass = (bytes: Buffer) => bytes;
  const inFlight = new Set<ClientUnaryCall>();
  const metadataNow = async (): Promise<Metadata | SendResult> => {
    if (typeof headers !== 'function') return fixed ?? new Metadata();
    try {
      return createMetadata(await headers());
    } catch (error) {
      const message = error instanceof Error ? error.message : String(error);
      return { outcome: 'retryable', message: cleanText(message, MESSAGE_LIMIT) };
    }
  };
  const call = (body: Buffer, metadata: Metadata) =>
    new Promise<SendResult>((resolve) => {
      const callOptions: CallOptions = { deadline: Date.now() + options.timeoutMillis };
      const made = client.makeUnaryRequest(
        EXPORT,
        pass,
        pass,
        body,
        metadata,
        callOptions,
        (error, response) => {
          inFlight.delete(made);
          resolve(error === null ? delivered(response) : failure(error));
        },
      );
      inFlight.add(made);
    });
  return {
    prepare(spans) {
      const serialised = ProtobufTraceSerializer.serializeRequest([...spans]);
      if (serialised === undefined) throw new Error('nothing to serialise');
      const body = Buffer.from(serialised.buffer, serialised.byteOffset, serialised.byteLength);
      return {
        bytes: body.length,
        async send() {
          try {
            const metadata = await metadataNow();
            return metadata instanceof Metadata ? await call(body, metadata) : metadata;
          } catch (error) {
            // A closed client throws instead of calling back.
            return { outcome: 'refused', message: cleanText(String(error), MESSAGE_LIMIT) };
          }
        },
      };
    },
    close() {
      // Closing the client alone lets calls run on until their deadline, and with them the process.
      for (const made of inFlight) made.cancel();
      client.close();
    },
  };
}
