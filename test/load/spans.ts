// What spans cost on their way out: spans/s, CPU per span and what is lost, through the agent's pipeline and through
// OpenTelemetry's stock BatchSpanProcessor with its stock exporter, to the same receiver over gRPC.
// Runs alone (`node test/load/spans.ts [--json]`); receiver and each sender in a process of its own.
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Server, ServerCredentials } from '@grpc/grpc-js';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-grpc';
import { BatchSpanProcessor } from '@opentelemetry/sdk-trace';
import { HTTP_REQUESTS } from '../../exporter/probes/http/requests.ts';
import { createTraceOutput, type TraceOutput } from '../../exporter/telemetry/spans/sink.ts';
import { createSynthesiser } from '../../exporter/telemetry/spans/synthesiser.ts';
import type { SpanRecord } from '../../exporter/telemetry/spans/types.ts';

const SPANS = 200_000;
const WORKLOADS = 20;
/** Spans per turn of the event loop: what one batch out of the ring buffer yields. */
const BURST = 256;

interface Figures {
  /** `steady`: offered as fast as there is room. `burst`: offered without looking. */
  readonly mode: 'steady' | 'burst';
  readonly sender: 'pipeline' | 'stock';
  readonly offered: number;
  readonly delivered: number;
  /** Spans that the sender itself says it lost. */
  readonly counted: number;
  readonly spansPerSecond: number;
  readonly cpuMicrosPerSpan: number;
  readonly rssMegabytes: number;
}

function record(i: number): SpanRecord {
  const server = {
    name: `service-${i % WORKLOADS}`,
    namespace: 'shop',
    kind: 'Deployment',
    pod: `service-${i % WORKLOADS}-0`,
  };
  const start = 1_795_442_400_000_000_000n + BigInt(i) * 1000n;
  return {
    kind: 'server',
    startUnixNano: start,
    endUnixNano: start + 1_234_567n,
    client: { name: 'frontend', namespace: 'shop', kind: 'Deployment', pod: 'frontend-0' },
    server,
    serverAddress: '10.0.0.7',
    serverPort: 8080,
    clientAddress: '10.0.0.3',
    protocol: HTTP_REQUESTS,
    operation: 'GET',
    target: '/users/{id}/orders',
    exactTarget: `/users/${i}/orders`,
    status: 200,
    reason: 'share',
    responseBytes: 512,
    detail: { version: '1.1', timeToFirstByteNanos: 1_000_000n },
  };
}

/** Counts the embedded messages at the end of a path of field numbers. */
function countMessages(data: Buffer, path: readonly number[]): number {
  let count = 0;
  let at = 0;
  const varint = () => {
    let value = 0;
    for (let shift = 0; ; shift += 7) {
      const byte = data[at++] ?? 0;
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
  };
  while (at < data.length) {
    const tag = varint();
    if ((tag & 7) !== 2) throw new Error('not a request of this sender');
    const length = varint();
    if (tag >> 3 === path[0])
      count += path.length === 1 ? 1 : countMessages(data.subarray(at, at + length), path.slice(1));
    at += length;
  }
  return count;
}

/** Serves OTLP and prints its port; answers every line of its input with the number of spans it has. */
async function receive(): Promise<void> {
  let spans = 0;
  const server = new Server();
  const pass = (bytes: Buffer) => bytes;
  const method = {
    path: '/opentelemetry.proto.collector.trace.v1.TraceService/Export',
    requestStream: false as const,
    responseStream: false as const,
    requestSerialize: pass,
    requestDeserialize: pass,
    responseSerialize: pass,
    responseDeserialize: pass,
  };
  server.addService(
    { Export: method },
    {
      Export: (call: { request: Buffer }, done: (error: null, answer: Buffer) => void) => {
        spans += countMessages(call.request, [1, 2, 2]);
        done(null, Buffer.alloc(0));
      },
    },
  );
  const credentials = ServerCredentials.createInsecure();
  server.bindAsync('127.0.0.1:0', credentials, (_error, port) => process.stdout.write(`${port}\n`));
  process.stdin.on('data', () => process.stdout.write(`${spans}\n`));
  process.stdin.on('end', () => process.exit(0));
}

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));

async function sendOurs(
  endpoint: string,
  steady: boolean,
): Promise<{ output: TraceOutput; counted: number }> {
  const queue = 8192;
  const output = createTraceOutput({
    resource: { host: 'node-1', agentVersion: '1' },
    settings: {
      endpoint,
      insecure: false,
      headers: {},
      timeout_seconds: 10,
      queue_spans: queue,
      batch_spans: 512,
      delay_millis: 1000,
      concurrency: 4,
      retry_seconds: 60,
    },
  });
  for (let i = 0; i < SPANS; i += BURST) {
    while (steady && (output.stats()?.queued ?? 0) > queue - BURST) await turn();
    for (let n = i; n < Math.min(i + BURST, SPANS); n++) output.accept(record(n));
    await turn();
  }
  await output.shutdown(30_000);
  const dropped = Object.values(output.stats()?.dropped ?? {}).reduce((sum, n) => sum + n, 0);
  return { output, counted: dropped };
}

async function sendStock(endpoint: string, steady: boolean): Promise<void> {
  const exporter = new OTLPTraceExporter({ url: endpoint });
  const processor = new BatchSpanProcessor({ exporter });
  const synthesiser = createSynthesiser({ host: 'node-1', agentVersion: '1' });
  const end = processor.onEnd.bind(processor) as (span: unknown) => void;
  for (let i = 0; i < SPANS; i += BURST) {
    for (let n = i; n < Math.min(i + BURST, SPANS); n++) end(synthesiser.synthesise(record(n)).span);
    // Its queue of 2048 cannot be asked for room: the only way to lose nothing is to wait for it to be empty.
    if (steady && (i / BURST) % 7 === 6) await processor.forceFlush();
    else await turn();
  }
  await processor.shutdown();
}

async function send(sender: Figures['sender'], mode: Figures['mode'], endpoint: string): Promise<void> {
  const began = performance.now();
  const cpu = process.cpuUsage();
  const steady = mode === 'steady';
  const counted = sender === 'pipeline' ? (await sendOurs(endpoint, steady)).counted : 0;
  if (sender === 'stock') await sendStock(endpoint, steady);
  const used = process.cpuUsage(cpu);
  const seconds = (performance.now() - began) / 1000;
  console.log(
    JSON.stringify({ seconds, cpuMicros: used.user + used.system, counted, rss: process.memoryUsage.rss() }),
  );
}

async function measure(sender: Figures['sender'], mode: Figures['mode']): Promise<Figures> {
  const self = fileURLToPath(import.meta.url);
  const receiver = spawn(process.execPath, [self, 'receive'], { stdio: ['pipe', 'pipe', 'inherit'] });
  try {
    const [port] = await once(receiver.stdout, 'data');
    const args = [
      '--max-semi-space-size=4',
      self,
      'send',
      sender,
      mode,
      `http://127.0.0.1:${String(port).trim()}`,
    ];
    const sent = JSON.parse(execFileSync(process.execPath, args, { encoding: 'utf8' }));
    receiver.stdin.write('\n');
    const [text] = await once(receiver.stdout, 'data');
    const delivered = Number(text);
    return {
      mode,
      sender,
      offered: SPANS,
      delivered,
      counted: sent.counted,
      spansPerSecond: delivered / sent.seconds,
      cpuMicrosPerSpan: sent.cpuMicros / delivered,
      rssMegabytes: sent.rss / 1e6,
    };
  } finally {
    receiver.stdin.end();
  }
}

const [command, ...rest] = process.argv.slice(2);
if (command === 'receive') await receive();
else if (command === 'send')
  await send(rest[0] as Figures['sender'], rest[1] as Figures['mode'], rest[2] ?? '');
else {
  const results: Figures[] = [];
  for (const mode of ['steady', 'burst'] as const)
    for (const sender of ['pipeline', 'stock'] as const) results.push(await measure(sender, mode));
  if (command === '--json') console.log(JSON.stringify(results));
  else
    for (const figures of results)
      console.log(
        `${figures.mode}, ${figures.sender}: ${figures.delivered} of ${figures.offered} spans arrived, ` +
          `${figures.counted} counted as lost, ${figures.offered - figures.delivered - figures.counted} lost in silence; ` +
          `${figures.spansPerSecond.toFixed(0)} spans/s, ${figures.cpuMicrosPerSpan.toFixed(1)} µs CPU per span, ` +
          `RSS ${figures.rssMegabytes.toFixed(0)} MB`,
      );
}
