// The stream layer, running, with what all protocols share in userspace: the ring buffer with names and samples, and one
// reading of the kernel's maps for each collection. The probe of a protocol adds itself; the first one starts it.
import type { LoadedProbe } from '../../kernel/loader.ts';
import { type BpfMap, RingBuffer } from '../../kernel/native.ts';
import type { VariableValue } from '../../kernel/object.ts';
import {
  type KernelStream,
  loadStream,
  type ProtocolOptions,
  type StreamOptions,
} from '../../kernel/stream.ts';
import type { Source } from '../../telemetry/collector.ts';
import type { SpanIdentity, SpanRecord, SpanSink } from '../../telemetry/spans/types.ts';
import type { RunningCore } from '../core.ts';
import type { ProbeContext, RunningProbe } from '../probe.ts';
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

/** Reads the maps that all protocols share, once for each collection. */
class SharedMaps {
  readonly records: RequestRecords;
  readonly requests: BpfMap;
  readonly names: BpfMap;
  readonly #active: BpfMap;
  readonly #states: BpfMap;
  #read: Read | undefined;
  /** Counters of connections that are of no protocol, as last read. */
  unclassified: Readonly<Record<string, number>>;

  constructor(loaded: LoadedProbe) {
    this.records = new RequestRecords(loaded.btf);
    this.requests = loaded.map('requests');
    this.names = loaded.map('request_names');
    this.#active = loaded.map('request_active');
    this.#states = loaded.map('request_states');
    this.unclassified = this.counters(UNKNOWN);
  }

  /** The walk over the sockets counts requests in flight anew. */
  beforeWalk(): void {
    this.#active.clear();
  }

  /** Until `read`, nothing is known. */
  forget(): void {
    this.#read = undefined;
  }

  read(): void {
    const { count, keys, values } = this.requests.readAll();
    const elements = new Map<number, number[]>();
    for (let i = 0; i < count; i++)
      push(elements, this.records.protocolOf(keys, i * this.records.key.size), i);
    const stride = count === 0 ? 0 : values.length / count;
    this.#read = { count, keys, values, stride, elements, active: this.#readActive() };
    this.unclassified = this.counters(UNKNOWN);
  }

  #readActive(): Read['active'] {
    const { size, protocol, edge_id, operation } = this.records.active;
    const { count, keys, values } = this.#active.readAll();
    const found = new Map<number, RequestBatch['active'][number][]>();
    for (let i = 0; i < count; i++) {
      const at = i * size;
      push(found, keys.readUInt8(at + protocol), {
        edgeId: keys.readUInt32LE(at + edge_id),
        operation: keys.readUInt8(at + operation),
        count: readCount(values, 8 * i),
      });
    }
    return found;
  }

  batch(protocol: number): RequestBatch {
    if (this.#read === undefined) throw new Error('the requests could not be read');
    const { elements, active, ...all } = this.#read;
    return { ...all, elements: elements.get(protocol) ?? [], active: active.get(protocol) ?? [] };
  }

  counters(protocol: number): Readonly<Record<string, number>> {
    const { counters, state } = this.records;
    const found = this.#states.lookup(Buffer.from([protocol, 0, 0, 0]));
    return Object.fromEntries(
      counters.map((name, i) => [name, Number(found?.readBigInt64LE(state.counters + 8 * i) ?? 0)]),
    );
  }
}

/** What a protocol's object is told of how its requests are counted. */
function countingRodata({ bounds, shards = 1 }: ProtocolRequestsOptions): Record<string, VariableValue> {
  return {
    request_bounds_ns: boundsValue(bounds),
    request_bounds: bounds.length,
    request_shard_mask: 2 ** Math.floor(Math.log2(Math.max(1, shards))) - 1,
  };
}

class Stream implements RequestStream {
  readonly loaded: LoadedProbe;
  readonly source;
  readonly sources;
  readonly objects;
  readonly #core: RunningCore;
  readonly #spans: SpanSink | undefined;
  readonly #kernel: KernelStream;
  readonly #maps: SharedMaps;
  readonly #readers = new Map<number, Reader>();
  readonly #take: (batch: Buffer) => void;
  readonly #ring: RingBuffer;
  readonly #ignore: () => void;
  readonly #sampling: NodeJS.Timeout | undefined;

  constructor(kernel: KernelStream, { core, spans }: Pick<RequestStreamOptions, 'core' | 'spans'>) {
    this.#kernel = kernel;
    this.#core = core;
    this.#spans = spans;
    this.loaded = kernel.loaded;
    this.objects = [kernel.loaded];
    this.source = { name: 'requests', owns: [], collect: async () => this.#collect() };
    this.sources = [this.source];
    this.#maps = new SharedMaps(kernel.loaded);
    this.#take = createEventReader(kernel.loaded.btf, {
      names: (protocol, events) => this.#readers.get(protocol)?.names?.take(events),
      span: (protocol, batch, at) => this.#readers.get(protocol)?.span(batch, at),
    });
    this.#ring = new RingBuffer(kernel.loaded.map('request_events'), this.#take).unref();
    this.#ignore = core.source.listen(this.#maps);
    if (spans === undefined) return;
    const check = () => kernel.setSampling(spans.active);
    check();
    this.#sampling = setInterval(check, SAMPLING_CHECK_MILLIS).unref();
  }

  add(options: ProtocolRequestsOptions): ProtocolRequests {
    const { name, rodata, book } = options;
    const { number, loaded } = this.#kernel.addProtocol({
      name,
      rodata: { ...countingRodata(options), ...rodata },
    });
    const { requests, records, names: map } = this.#maps;
    const { directory } = this.#core;
    const names = book && new Names({ protocol: number, map, records, book, directory, learn: this.#learn });
    this.#readers.set(number, { names, span: this.#spanReader(options, names) });
    const maps = this.#maps;
    return {
      loaded,
      names,
      table: (own) =>
        new RequestTable({ ...own, bounds: options.bounds.length, requests, records, names, directory }),
      batch: () => maps.batch(number),
      counters: () => maps.counters(number),
      get unclassified() {
        return maps.unclassified;
      },
    };
  }

  readonly #learn = (): void => this.#core.directory.learn(this.#core.table.read());

  #spanReader(
    { record, exemplar, unnamed }: ProtocolRequestsOptions,
    names: Names | undefined,
  ): Reader['span'] {
    if (this.#spans === undefined) return () => {};
    return createSampleReader({
      btf: this.loaded.btf,
      records: this.#maps.records,
      names,
      directory: this.#core.directory,
      sink: this.#spans,
      learn: this.#learn,
      record,
      exemplar,
      unnamed,
    });
  }

  begin(): void {
    this.#kernel.begin();
  }

  drain(): void {
    for (let batch = this.#ring.take(); batch !== undefined; batch = this.#ring.take())
      this.#take(batch.buffer);
  }

  #collect(): void {
    this.#maps.forget();
    this.drain();
    for (const { names } of this.#readers.values()) names?.answer();
    this.#maps.read();
  }

  problems(): readonly string[] {
    return [];
  }

  lost(): Readonly<Record<string, number>> {
    const counted = Object.entries(this.#maps.unclassified).filter(
      ([name, count]) => name.startsWith(LOST) && count > 0,
    );
    return Object.fromEntries(counted.map(([name, count]) => [`stream_${name.slice(LOST.length)}`, count]));
  }

  close(): void {
    clearInterval(this.#sampling);
    this.#ignore();
    this.#ring.close();
    this.#kernel.close();
  }
}

/**
 * Loads and attaches the stream layer.
 * @throws ProbeError when the kernel refuses what cannot be done without; the message says what and why.
 */
export function startStream(options: RequestStreamOptions): RequestStream {
  const { spans } = options;
  return new Stream(
    loadStream({ ...options, requestRodata: { request_spans: spans !== undefined } }),
    options,
  );
}

/** The stream layer that all protocols share; the first probe that asks starts it. */
export function sharedStream({ shared, loader, core, config, spans, stream }: ProbeContext): RequestStream {
  return shared('stream', () =>
    startStream({
      loader,
      core,
      spans,
      provider: 'auto',
      rodata: { stream_stats: config.bpf.stats },
      ...stream,
      waits: true,
    }),
  );
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
