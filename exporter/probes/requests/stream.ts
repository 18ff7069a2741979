// The stream layer, running, with what all protocols share in userspace: the ring buffer with names and samples, and one
// reading of the kernel's maps for each collection. The probe of a protocol adds itself; the first one starts it.
import type { LoadedProbe } from '../../kernel/loader.ts';
import { RingBuffer } from '../../kernel/native.ts';
import { loadStream, type ProtocolOptions, type StreamOptions } from '../../kernel/stream.ts';
import type { Source } from '../../telemetry/collector.ts';
import type { SpanIdentity, SpanRecord, SpanSink } from '../../telemetry/spans/types.ts';
import type { RunningCore } from '../core.ts';
import type { RunningProbe } from '../probe.ts';
import { createEventReader } from './events.ts';
import { type NameBook, Names } from './names.ts';
import { RequestRecords, readCount } from './records.ts';
import { createSampleReader, type Sample } from './samples.ts';
import { type RequestBatch, type RequestSeries, RequestTable, type RequestTableOptions } from './table.ts';

export interface RequestStreamOptions extends Omit<StreamOptions, 'core' | 'requestRodata'> {
  readonly core: RunningCore;
  /** Takes sampled requests; left out, nothing is sampled. */
  readonly spans: SpanSink | undefined;
}

export interface ProtocolRequestsOptions extends ProtocolOptions {
  /** Bounds of its duration histograms, in seconds. */
  readonly bounds: readonly number[];
  /** Processors that share counters in the kernel; more spread the load over more memory. */
  readonly shards?: number | undefined;
  /** Left out where its names are a fixed list. */
  readonly book?: NameBook;
  /** The span of a sample, in the words of the protocol. */
  readonly record: (sample: Sample) => SpanRecord;
  /** A span was accepted: leaves its id at the histogram that counts the request. */
  readonly exemplar: (sample: Sample, record: SpanRecord, identity: SpanIdentity) => void;
  /** A sampled request whose edge has no name. */
  readonly unnamed: () => void;
}

/** Requests of one protocol. */
export interface ProtocolRequests {
  /** The protocol's object. */
  readonly loaded: LoadedProbe;
  readonly names: Names | undefined;
  table<S extends RequestSeries>(options: Pick<RequestTableOptions<S>, 'series' | 'active'>): RequestTable<S>;
  /** As this collection has read them. */
  batch(): RequestBatch;
  /** The kernel's counters now, by name. */
  counters(): Readonly<Record<string, number>>;
  /** The same of connections that are of no protocol, as last read. */
  readonly unclassified: Readonly<Record<string, number>>;
}

/** `STREAM_UNKNOWN`: what is counted of connections that are of no protocol. */
const UNKNOWN = 0;

/** Prefix of the kernel's counters of losses. */
const LOST = 'lost_';

/** How often it is looked whether spans are wanted. */
const SAMPLING_CHECK_MILLIS = 250;

interface Reader {
  readonly names: Names | undefined;
  readonly span: (batch: Buffer, at: number) => void;
}

type Read = Pick<RequestBatch, 'keys' | 'values' | 'stride' | 'count'> & {
  readonly elements: ReadonlyMap<number, readonly number[]>;
  readonly active: ReadonlyMap<number, RequestBatch['active']>;
};

/** The stream layer, running. */
export interface RequestStream extends RunningProbe {
  readonly loaded: LoadedProbe;
  /** Reads the maps; first in every collection, after that of the edges. */
  readonly source: Source & { collect(): Promise<void> };
  /**
   * Loads a protocol; connections of it are followed from here on.
   * @throws ProbeError when the kernel refuses it. The others go on.
   */
  add(options: ProtocolRequestsOptions): ProtocolRequests;
  /** Takes in what waits in the ring buffer, without waiting for the event loop. */
  drain(): void;
  /** Detaches everything. Idempotent. */
  close(): void;
}

/**
 * Loads and attaches the stream layer.
 * @throws ProbeError when the kernel refuses what cannot be done without; the message says what and why.
 */
export function startStream(options: RequestStreamOptions): RequestStream {
  const { core, spans } = options;
  const stream = loadStream({ ...options, requestRodata: { request_spans: spans !== undefined } });
  const { loaded } = stream;
  const records = new RequestRecords(loaded.btf);
  const requests = loaded.map('requests');
  const active = loaded.map('request_active');
  const states = loaded.map('request_states');
  const readers = new Map<number, Reader>();
  const learn = () => core.directory.learn(core.table.read());
  const take = createEventReader(loaded.btf, {
    names: (protocol, events) => readers.get(protocol)?.names?.take(events),
    span: (protocol, batch, at) => readers.get(protocol)?.span(batch, at),
  });
  const ring = new RingBuffer(loaded.map('request_events'), take).unref();
  const drain = () => {
    for (let batch = ring.take(); batch !== undefined; batch = ring.take()) take(batch.buffer);
  };
  const ignore = core.source.listen({ beforeWalk: () => active.clear() });
  const check = () => stream.setSampling(spans?.active ?? false);
  const sampling = spans === undefined ? undefined : setInterval(check, SAMPLING_CHECK_MILLIS).unref();
  check();

  let read: Read | undefined;
  const readMaps = (): Read => {
    const { count, keys, values } = requests.readAll();
    const elements = new Map<number, number[]>();
    for (let i = 0; i < count; i++) push(elements, records.protocolOf(keys, i * records.key.size), i);
    return {
      count,
      keys,
      values,
      stride: count === 0 ? 0 : values.length / count,
      elements,
      active: readActive(),
    };
  };
  const readActive = () => {
    const { count, keys, values } = active.readAll();
    const found = new Map<number, RequestBatch['active'][number][]>();
    for (let i = 0; i < count; i++) {
      const at = i * records.active.size;
      push(found, keys.readUInt8(at + records.active.protocol), {
        edgeId: keys.readUInt32LE(at + records.active.edge_id),
        operation: keys.readUInt8(at + records.active.operation),
        count: readCount(values, 8 * i),
      });
    }
    return found;
  };
  const counters = (protocol: number): Record<string, number> => {
    const state = states.lookup(Buffer.from([protocol, 0, 0, 0]));
    return Object.fromEntries(
      records.counters.map((name, i) => [
        name,
        Number(state?.readBigInt64LE(records.state.counters + 8 * i) ?? 0),
      ]),
    );
  };
  let unclassified = counters(UNKNOWN);

  const add = (options: ProtocolRequestsOptions): ProtocolRequests => {
    const { book, record, exemplar, unnamed, bounds, shards = 1, ...protocol } = options;
    const counting = {
      request_bounds_ns: boundsValue(bounds),
      request_bounds: bounds.length,
      request_shard_mask: 2 ** Math.floor(Math.log2(Math.max(1, shards))) - 1,
    };
    const { number, loaded: object } = stream.addProtocol({
      ...protocol,
      rodata: { ...counting, ...protocol.rodata },
    });
    const { directory } = core;
    const names =
      book &&
      new Names({ protocol: number, map: loaded.map('request_names'), records, book, directory, learn });
    const span =
      spans === undefined
        ? () => {}
        : createSampleReader({
            btf: loaded.btf,
            records,
            names,
            directory,
            sink: spans,
            learn,
            record,
            exemplar,
            unnamed,
          });
    readers.set(number, { names, span });
    return {
      loaded: object,
      names,
      table: (own) =>
        new RequestTable({ ...own, bounds: bounds.length, requests, records, names, directory }),
      batch: () => {
        if (read === undefined) throw new Error('the requests could not be read');
        return { ...read, elements: read.elements.get(number) ?? [], active: read.active.get(number) ?? [] };
      },
      counters: () => counters(number),
      get unclassified() {
        return unclassified;
      },
    };
  };

  const collect = async () => {
    read = undefined;
    drain();
    for (const { names } of readers.values()) names?.answer();
    read = readMaps();
    unclassified = counters(UNKNOWN);
  };
  const close = () => {
    clearInterval(sampling);
    ignore();
    ring.close();
    stream.close();
  };
  const lost = () => {
    const counted = Object.entries(unclassified).filter(
      ([name, count]) => name.startsWith(LOST) && count > 0,
    );
    return Object.fromEntries(counted.map(([name, count]) => [`stream_${name.slice(LOST.length)}`, count]));
  };
  const source = { name: 'requests', owns: [], collect };
  return {
    loaded,
    source,
    sources: [source],
    objects: [loaded],
    problems: () => [],
    lost,
    add,
    drain,
    close,
  };
}

/** The bucket bounds as the kernel wants them: `const volatile u64 [24]`. */
function boundsValue(seconds: readonly number[]): Uint8Array {
  const bytes = Buffer.alloc(24 * 8);
  for (const [i, bound] of seconds.entries()) bytes.writeBigUInt64LE(BigInt(Math.round(bound * 1e9)), 8 * i);
  return bytes;
}

function push<T>(into: Map<number, T[]>, key: number, value: T): void {
  const same = into.get(key);
  if (same === undefined) into.set(key, [value]);
  else same.push(value);
}
