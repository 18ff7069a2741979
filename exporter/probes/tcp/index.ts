// The TCP probe: loads bpf/tcp.bpf.c, finds the sockets that were open before, and gives the collector its source.
// It also makes the edge table and its names, which the other probes share.
import { fileURLToPath } from 'node:url';
import type { Config } from '../../config/schema.ts';
import { parseCidr } from '../../identity/address.ts';
import type { CgroupMode, Identity } from '../../identity/types.ts';
import { Btf } from '../../kernel/btf.ts';
import { EdgeTable, type EdgeTableLayouts, type EdgeTableMaps } from '../../kernel/edge_table.ts';
import { type BpfMap, type BpfObject, kernelBtf, openObject } from '../../kernel/native.ts';
import type { SeriesStore } from '../../telemetry/store.ts';
import { EdgeDirectory } from '../edges.ts';
import { TcpSource } from './source.ts';

const OBJECT = fileURLToPath(new URL('../../../build/bpf/tcp.bpf.o', import.meta.url));

const PROGRAMS = ['tcp_state', 'tcp_reset_received', 'tcp_reset_sent'] as const;

/** Maps of bpf/include/edge.h that other probes' objects must use too. */
export const SHARED_MAPS = [
  'edges',
  'edge_ids',
  'owners',
  'owner_ids',
  'named_cgroups',
  'sockets',
  'pairs',
  'acceptors',
  'listen_ports',
  'ranges',
  'edge_state',
] as const;

export interface TcpProbeOptions {
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
  readonly object: BpfObject;
  readonly table: EdgeTable;
  readonly directory: EdgeDirectory;
  readonly source: TcpSource;
  /** Maps that other objects must share, by name. */
  readonly sharedMaps: Readonly<Record<string, BpfMap>>;
  /** Detaches everything. Idempotent. */
  close(): void;
}

/** Number of a v1 controller in the running kernel's `css_set.subsys`; -1 for v2. */
function cgroupSubsystem({ mode, controller }: CgroupMode): number {
  if (mode === 'v2' || controller === undefined) return -1;
  const name = `${controller === 'blkio' ? 'io' : controller}_cgrp_id`;
  return new Btf(kernelBtf()).enumerator('cgroup_subsys_id', name) ?? -1;
}

function layouts(object: BpfObject): EdgeTableLayouts {
  const raw = object.btf();
  if (raw === undefined) throw new Error('the TCP object has no type information');
  const btf = new Btf(raw);
  const stages = btf.find('lost_stage', 'enum')?.values ?? [];
  return {
    edge: btf.layout('edge'),
    edge_key: btf.layout('edge_key'),
    owner_info: btf.layout('owner_info'),
    owner_key: btf.layout('owner_key'),
    edge_state: btf.layout('edge_state'),
    lostStages: stages.slice(0, -1).map(({ name }) => name.replace(/^LOST_/, '').toLowerCase()),
  };
}

function setRanges(table: EdgeTable, identity: Identity): void {
  table.setRanges(
    identity.ranges().flatMap(({ cidr, kind, id }) => {
      const parsed = parseCidr(cidr);
      return parsed === undefined ? [] : [{ address: parsed.bytes, bits: parsed.prefix, kind, id }];
    }),
  );
}

/**
 * Loads and attaches the probe; connections are counted from here on.
 * @throws KernelError when the kernel refuses a program; the message says which and why.
 */
export function createTcpProbe({ config, identity, store, self = process.pid }: TcpProbeOptions): TcpProbe {
  const { edges, owners } = config.limits;
  const object = openObject(OBJECT, {
    name: 'tcp',
    rodata: {
      agent_tgid: config.identity.include_self ? 0 : self,
      cgroup_subsystem: cgroupSubsystem(identity.cgroupMode),
    },
    maxEntries: { edges, edge_ids: edges, owners, owner_ids: owners },
  });
  try {
    object.load();
    const sharedMaps = Object.fromEntries(SHARED_MAPS.map((name) => [name, object.map(name)]));
    const table = new EdgeTable(sharedMaps as unknown as EdgeTableMaps, layouts(object));
    table.initialise();
    setRanges(table, identity);
    for (const program of PROGRAMS) object.program(program).attach();
    object.program('find_listeners').attachIterator().read();
    const find = object.program('find_sockets').attachIterator();
    find.read();
    const walk = object.program('tcp_walk').attachIterator({ map: object.map('sockets') });
    const directory = new EdgeDirectory(table, identity);
    const unsubscribe = identity.onChange(({ ranges }) => ranges && setRanges(table, identity));
    const source = new TcpSource({
      table,
      directory,
      store,
      labels: { detail: config.detail, zones: config.identity.zones },
      walk: () => void walk.read(),
      find: () => void find.read(),
    });
    const close = () => {
      unsubscribe();
      object.close();
    };
    return { object, table, directory, source, sharedMaps, close };
  } catch (error) {
    object.close();
    throw error;
  }
}
