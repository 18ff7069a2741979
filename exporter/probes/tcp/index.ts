// The TCP probe: loads bpf/core/core.bpf.c, finds the sockets that were open before, and gives the collector its source.
// It also makes the edge table and its names, which the other probes share.
import type { Config } from '../../config/schema.ts';
import { parseCidr } from '../../identity/address.ts';
import type { CgroupMode, Identity } from '../../identity/types.ts';
import { Btf } from '../../kernel/btf.ts';
import * as conntrack from '../../kernel/conntrack.ts';
import { EdgeTable, type EdgeTableLayouts, type EdgeTableMaps } from '../../kernel/edge_table.ts';
import type { BpfLoader, LoadedProbe, Purpose } from '../../kernel/loader.ts';
import { type BpfLink, type BpfObject, kernelBtf } from '../../kernel/native.ts';
import type { VariableValue } from '../../kernel/object.ts';
import type { SeriesStore } from '../../telemetry/store.ts';
import { EdgeDirectory } from '../edges.ts';
import { TcpSource } from './source.ts';

const PROGRAMS: readonly Purpose[] = [
  {
    purpose: 'connection state',
    alternatives: [
      {
        // Tracepoints became preemptible: see bpf/core/core.bpf.c.
        program: ['core_state', 'core_state_nested', 'core_state_nested2', 'core_state_nested3'],
        needs: ['kernel:7.0'],
      },
      { program: ['core_state', 'core_state_nested'] },
    ],
  },
  {
    purpose: 'resets received',
    alternatives: [{ program: ['tcp_reset_received', 'tcp_reset_received_nested'] }],
    optional: true,
  },
  {
    purpose: 'resets sent',
    alternatives: [{ program: ['tcp_reset_sent', 'tcp_reset_sent_nested'] }],
    optional: true,
  },
  {
    purpose: 'translated addresses',
    alternatives: [{ program: 'conntrack_messages', attach: conntrack.subscribe }],
    optional: true,
  },
  {
    purpose: 'walk over the sockets',
    alternatives: [
      {
        program: 'core_walk',
        needs: ['iter:bpf_sk_storage_map'],
        attach: (program, object) => program.attachIterator({ map: object.map('sockets') }),
      },
      { program: 'core_walk_files', attach: (program) => program.attachIterator() },
    ],
  },
  {
    purpose: 'sockets that were open before',
    alternatives: [
      { program: ['find_listeners', 'find_sockets'], attach: (program) => program.attachIterator() },
    ],
  },
];

/** Maps of the edge table, shared by name with every other probe's object. */
const EDGE_MAPS: readonly (keyof EdgeTableMaps)[] = [
  'edges',
  'edge_ids',
  'owners',
  'owner_ids',
  'named_cgroups',
  'pairs',
  'acceptors',
  'ranges',
  'edge_state',
];

export interface TcpProbeOptions {
  readonly loader: BpfLoader;
  readonly config: Pick<Config, 'limits' | 'detail'> & {
    readonly identity: Pick<Config['identity'], 'include_self' | 'zones'>;
  };
  readonly identity: Identity & { readonly cgroupMode: CgroupMode };
  readonly store: SeriesStore;
  /** Process whose traffic is left out; default this one. */
  readonly self?: number;
}

/** The running probe. */
export interface TcpProbe {
  readonly loaded: LoadedProbe;
  readonly table: EdgeTable;
  readonly directory: EdgeDirectory;
  readonly source: TcpSource;
  /** What the kernel side was told of owners; every object that includes owner.h wants the same. */
  readonly ownerRodata: Readonly<Record<string, VariableValue>>;
  /** Detaches everything. Idempotent. */
  close(): void;
}

/** Number of a v1 controller in the running kernel's `css_set.subsys`; -1 for v2. */
function cgroupSubsystem({ mode, controller }: CgroupMode): number {
  if (mode === 'v2' || controller === undefined) return -1;
  const name = `${controller === 'blkio' ? 'io' : controller}_cgrp_id`;
  return new Btf(kernelBtf()).enumerator('cgroup_subsys_id', name) ?? -1;
}

function edgeTable(object: BpfObject): EdgeTable {
  const raw = object.btf();
  if (raw === undefined) throw new Error('the TCP object has no type information');
  const btf = new Btf(raw);
  const stages = btf.find('lost_stage', 'enum')?.values ?? [];
  const layouts: EdgeTableLayouts = {
    edge: btf.layout('edge'),
    edge_key: btf.layout('edge_key'),
    owner_info: btf.layout('owner_info'),
    owner_key: btf.layout('owner_key'),
    edge_state: btf.layout('edge_state'),
    lostStages: stages.slice(0, -1).map(({ name }) => name.replace(/^LOST_/, '').toLowerCase()),
  };
  const maps = Object.fromEntries(EDGE_MAPS.map((name) => [name, object.map(name)]));
  return new EdgeTable(maps as unknown as EdgeTableMaps, layouts);
}

function setRanges(table: EdgeTable, identity: Identity): void {
  table.setRanges(
    identity.ranges().flatMap(({ cidr, kind, id }) => {
      const parsed = parseCidr(cidr);
      return parsed === undefined ? [] : [{ address: parsed.bytes, bits: parsed.prefix, kind, id }];
    }),
  );
}

/** The link of whichever of the programs is in use. */
function iterator(loaded: LoadedProbe, ...programs: string[]): BpfLink {
  const link = programs.map((program) => loaded.links.get(program)).find((found) => found !== undefined);
  if (link === undefined) throw new Error(`${programs.join(', ')}: not attached`);
  return link;
}

/** Before the sockets are looked for, so that clients that were connected already find what answers them. */
function learnTranslations(loaded: LoadedProbe): void {
  const link = loaded.links.get('conntrack_messages');
  if (link !== undefined) conntrack.readAll(link);
}

/**
 * Loads and attaches the probe; connections are counted from here on.
 * @throws ProbeError when the kernel refuses what cannot be done without; the message says what and why.
 */
export function createTcpProbe(options: TcpProbeOptions): TcpProbe {
  const { loader, config, identity, self = process.pid } = options;
  const { edges, owners, sockets } = config.limits;
  let table: EdgeTable | undefined;
  const ownerRodata = {
    agent_tgid: config.identity.include_self ? 0 : self,
    cgroup_subsystem: cgroupSubsystem(identity.cgroupMode),
  };
  const loaded = loader.load({
    object: 'core',
    programs: PROGRAMS,
    rodata: { ...ownerRodata, walker_tgid: self },
    maxEntries: { edges, edge_ids: edges, owners, owner_ids: owners, pairs: sockets, backends: sockets },
    prepare: (object) => {
      table = edgeTable(object);
      table.initialise();
      setRanges(table, identity);
    },
  });
  if (table === undefined) throw new Error('the loader did not prepare the TCP maps');
  learnTranslations(loaded);
  iterator(loaded, 'find_listeners').read();
  iterator(loaded, 'find_sockets').read();
  return { ...assemble(loaded, table, options), ownerRodata };
}

function assemble(
  loaded: LoadedProbe,
  table: EdgeTable,
  options: TcpProbeOptions,
): Omit<TcpProbe, 'ownerRodata'> {
  const { config, identity, store } = options;
  const directory = new EdgeDirectory(table, identity);
  const walk = iterator(loaded, 'core_walk', 'core_walk_files');
  const unsubscribe = identity.onChange(({ ranges }) => ranges && setRanges(table, identity));
  const source = new TcpSource({
    table,
    directory,
    store,
    labels: { detail: config.detail, zones: config.identity.zones },
    walk: () => void walk.read(),
    find: () => void iterator(loaded, 'find_sockets').read(),
  });
  const close = () => {
    unsubscribe();
    loaded.close();
  };
  return { loaded, table, directory, source, close };
}
