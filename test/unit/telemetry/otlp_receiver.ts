// A real gRPC server for OTLP metrics: decodes with protobufjs from its own .proto and keeps every data point.
import { fileURLToPath } from 'node:url';
import { Server, ServerCredentials, type ServiceDefinition, type status } from '@grpc/grpc-js';
import { loadSync } from '@grpc/proto-loader';

interface KeyValue {
  readonly key: string;
  readonly value: {
    readonly stringValue?: string;
    readonly intValue?: string;
    readonly doubleValue?: number;
  };
}

interface DataPoint {
  readonly attributes?: readonly KeyValue[];
  readonly startTimeUnixNano: string;
  readonly timeUnixNano: string;
  readonly asDouble?: number;
  readonly asInt?: string;
  readonly count?: string;
  readonly sum?: number;
  readonly bucketCounts?: readonly string[];
  readonly explicitBounds?: readonly number[];
}

interface Data {
  readonly dataPoints: readonly DataPoint[];
  readonly isMonotonic?: boolean;
  readonly aggregationTemporality?: number;
}

interface Metric {
  readonly name: string;
  readonly unit: string;
  readonly description: string;
  readonly gauge?: Data;
  readonly sum?: Data;
  readonly histogram?: Data;
}

interface Request {
  readonly resourceMetrics: readonly {
    readonly resource: { readonly attributes?: readonly KeyValue[] };
    readonly scopeMetrics: readonly {
      readonly scope: { readonly name: string; readonly version: string };
      readonly metrics: readonly Metric[];
    }[];
  }[];
}

/** One data point as received. */
export interface ReceivedPoint {
  readonly metric: string;
  readonly unit: string;
  readonly type: 'gauge' | 'sum' | 'histogram';
  readonly monotonic: boolean | undefined;
  readonly temporality: number | undefined;
  readonly attributes: Readonly<Record<string, string | number>>;
  readonly startMillis: number;
  readonly endMillis: number;
  readonly value: number;
  readonly integer: boolean;
  readonly sum: number | undefined;
  readonly buckets: readonly number[] | undefined;
  readonly bounds: readonly number[] | undefined;
  readonly resource: Readonly<Record<string, string | number>>;
  readonly scope: string;
  readonly request: number;
}

export type Answer = 'accept' | 'hang' | { readonly fail: status } | { readonly reject: number };

const proto = loadSync(fileURLToPath(new URL('otlp_metrics.proto', import.meta.url)), {
  longs: String,
  oneofs: true,
});

/** A receiver on a free port of the loopback interface. */
export class OtlpReceiver {
  readonly points: ReceivedPoint[] = [];
  readonly metadata: Record<string, unknown>[] = [];
  requests = 0;
  answer: Answer = 'accept';
  port = 0;
  private readonly server = new Server({ 'grpc.max_receive_message_length': 64 << 20 });

  async listen(port = 0): Promise<this> {
    const service = proto['opentelemetry.proto.collector.metrics.v1.MetricsService'] as ServiceDefinition;
    this.server.addService(service, {
      Export: (
        call: { request: Request; metadata: { getMap(): Record<string, unknown> } },
        reply: (error: object | null, value?: object) => void,
      ) => {
        const { answer } = this;
        this.requests++;
        this.metadata.push(call.metadata.getMap());
        if (answer === 'hang') return;
        if (typeof answer === 'object' && 'fail' in answer) {
          reply({ code: answer.fail, details: 'as the test says' });
          return;
        }
        this.points.push(...read(call.request, this.requests));
        const rejected = typeof answer === 'object' ? answer.reject : 0;
        reply(
          null,
          rejected > 0 ? { partialSuccess: { rejectedDataPoints: rejected, errorMessage: 'no' } } : {},
        );
      },
    });
    this.port = await new Promise((resolve, reject) => {
      this.server.bindAsync(`127.0.0.1:${port}`, ServerCredentials.createInsecure(), (error, bound) =>
        error ? reject(error) : resolve(bound),
      );
    });
    return this;
  }

  close(): void {
    this.server.forceShutdown();
  }
}

/** protobufjs leaves out what is empty. */
function plain(attributes: readonly KeyValue[] = []): Record<string, string | number> {
  return Object.fromEntries(
    attributes.map(({ key, value }) => [
      key,
      value.stringValue ?? Number(value.intValue ?? value.doubleValue),
    ]),
  );
}

function* read({ resourceMetrics }: Request, request: number): Generator<ReceivedPoint> {
  for (const { resource, scopeMetrics } of resourceMetrics) {
    for (const { scope, metrics } of scopeMetrics) {
      for (const metric of metrics) {
        const type = metric.gauge ? 'gauge' : metric.sum ? 'sum' : 'histogram';
        const data = metric[type] as Data;
        for (const point of data.dataPoints) {
          yield {
            metric: metric.name,
            unit: metric.unit,
            type,
            monotonic: type === 'sum' ? data.isMonotonic === true : undefined,
            temporality: data.aggregationTemporality,
            attributes: plain(point.attributes),
            startMillis: Number(BigInt(point.startTimeUnixNano) / 1_000_000n),
            endMillis: Number(BigInt(point.timeUnixNano) / 1_000_000n),
            value: Number(point.count ?? point.asInt ?? point.asDouble),
            integer: point.asInt !== undefined,
            sum: point.sum,
            buckets: point.bucketCounts?.map(Number),
            bounds: point.explicitBounds,
            resource: plain(resource.attributes),
            scope: `${scope.name} ${scope.version}`,
            request,
          };
        }
      }
    }
  }
}
