// The core object (bpf/core/): edges, owners, the one hook on the life of connections, the one walk over sockets. Every
// probe shares it; exporter/probes/core.ts gives it names and reads it at each collection.
import { arch } from 'node:os';
import { Btf } from './btf.ts';
import { cgroupRoot } from './cgroups.ts';
import * as conntrack from './conntrack.ts';
import { edgeTableLayouts } from './edge_layouts.ts';
import { EdgeTable, type EdgeTableMaps, type RangeEntry } from './edge_table.ts';
import type { Alternative, BpfLoader, LoadedProbe, Purpose } from './loader.ts';
import { type BpfLink, type BpfObject, kernelBtf } from './native.ts';
import type { VariableValue } from './object.ts';

const CONNECTIONS: readonly Purpose[] = [
  {
    purpose: 'connection state',
    alternatives: [
      {
        // Tracepoints became preemptible: see bpf/core/core.bpf.c.
        program: [
          'core_state',
          'core_state_backup',
          'core_state_backup2',
          'core_state_backup3',
          'core_state_destroyed',
        ],
        needs: ['kernel:7.0'],
        caughtUp: ['core_state_destroyed'], // it makes up for what all the others have missed
      },
      {
        program: ['core_state', 'core_state_backup', 'core_state_destroyed'],
        needs: ['tracepoint:tcp_destroy_sock'],
        caughtUp: ['core_state_destroyed'],
      },
      { program: ['core_state', 'core_state_backup'] },
    ],
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

const RESETS: readonly Purpose[] = [
  {
    purpose: 'resets received',
    alternatives: [{ program: ['tcp_reset_received', 'tcp_reset_received_backup'] }],
    optional: true,
  },
  {
    purpose: 'resets sent',
    alternatives: [{ program: ['tcp_reset_sent', 'tcp_reset_sent_backup'] }],
    optional: true,
  },
];

/** Attempts to connect that fail before anything is sent: see bpf/core/connect_results.h. */
const CONNECT_RESULTS: Alternative = {
  program: ['core_connect4_result', 'core_connect6_result'],
  needs: ['fentry', 'function:tcp_v4_connect', 'function:tcp_v6_connect'],
};

/** `attempts`: fexit is not there, and the programs note which failures the socket's state tells (connect_attempts_kept). */
function connects(attempts: boolean): Purpose {
  const path = attempts ? cgroupRoot() : undefined;
  const begins: Alternative = {
    program: ['core_connect4_begins', 'core_connect6_begins'],
    needs: ['kfunc:bpf_task_work_schedule_resume_impl'],
    attach: (program) => program.attachCgroup({ path: path ?? '' }),
  };
  return {
    purpose: 'connects that fail at once',
    alternatives: [
      CONNECT_RESULTS,
      // In a container that sees its own cgroup only, the rest of the host would be missing in silence.
      ...(path === undefined ? [] : [begins]),
    ],
    optional: true,
  };
}

/** Maps of the edge table. */
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

/** The core's maps that bpf/core/socket.h brings into every object which includes it, for `shares`. */
export const CORE_MAPS: readonly string[] = [...EDGE_MAPS, 'sockets', 'listen_ports', 'backends'];

export interface CoreOptions {
  readonly loader: BpfLoader;
  readonly limits: { readonly edges: number; readonly owners: number; readonly sockets: number };
  /** The agent's own process. */
  readonly self: number;
  /** Count the agent's own connections too. */
  readonly includeSelf: boolean;
  /** Which hierarchy of cgroups carries containers: v2, or that of a v1 controller. */
  readonly cgroups: { readonly mode: string; readonly controller?: string | undefined };
  /** Remote addresses that are more than `external`, from the first connection on. */
  readonly ranges: readonly RangeEntry[];
  /** Keep TCP's totals by edge: the map `tcp_totals`, and the programs for resets. */
  readonly tcpTotals: boolean;
}

/** The core object, attached. */
export interface KernelCore {
  readonly loaded: LoadedProbe;
  readonly table: EdgeTable;
  /** What the kernel side was told of owners; every object that includes owner.h wants the same. */
  readonly ownerRodata: Readonly<Record<string, VariableValue>>;
  /** The walk goes over descriptors: it finds what nobody knew until then. */
  readonly walkFinds: boolean;
  /** Meets every socket: it adds what it has not accounted yet, and its protocol's walk runs. */
  walk(): void;
  /** Accepted sockets whose reader was not observed learn which process holds them. */
  findOwners(): void;
  /** Detaches everything. Idempotent. */
  close(): void;
}

/** Number of a v1 controller in the running kernel's `css_set.subsys`; -1 for v2. */
function cgroupSubsystem({ mode, controller }: CoreOptions['cgroups']): number {
  if (mode === 'v2' || controller === undefined) return -1;
  const name = `${controller === 'blkio' ? 'io' : controller}_cgrp_id`;
  return new Btf(kernelBtf()).enumerator('cgroup_subsys_id', name) ?? -1;
}

function edgeTable(object: BpfObject): EdgeTable {
  const raw = object.btf();
  if (raw === undefined) throw new Error('the core object has no type information');
  const maps = Object.fromEntries(EDGE_MAPS.map((name) => [name, object.map(name)]));
  return new EdgeTable(maps as unknown as EdgeTableMaps, edgeTableLayouts(new Btf(raw)));
}

/** The link of whichever of the programs is in use. */
function iterator(loaded: LoadedProbe, ...programs: string[]): BpfLink {
  const link = programs.map((program) => loaded.links.get(program)).find((found) => found !== undefined);
  if (link === undefined) throw new Error(`${programs.join(', ')}: not attached`);
  return link;
}

/**
 * Loads and attaches the core; connections are known from here on, those that were open before included.
 * @throws ProbeError when the kernel refuses what cannot be done without; the message says what and why.
 */
export function loadCore({
  loader,
  limits,
  self,
  includeSelf,
  cgroups,
  ranges,
  tcpTotals,
}: CoreOptions): KernelCore {
  const { edges, owners, sockets } = limits;
  let table: EdgeTable | undefined;
  const connectAttempts =
    tcpTotals && (CONNECT_RESULTS.needs ?? []).some((need) => loader.features.missing(need) !== undefined);
  const ownerRodata = { agent_tgid: includeSelf ? 0 : self, cgroup_subsystem: cgroupSubsystem(cgroups) };
  const loaded = loader.load({
    object: 'core',
    programs: tcpTotals ? [...CONNECTIONS, ...RESETS, connects(connectAttempts)] : CONNECTIONS,
    rodata: {
      ...ownerRodata,
      walker_tgid: self,
      tcp_totals_kept: tcpTotals,
      connect_attempts_kept: connectAttempts,
      // arm64 has no tail calls from programs with subprograms before 6.0; nor has it hooks on payload there.
      stream_programs_called: arch() !== 'arm64' || loader.features.missing('kernel:6.0') === undefined,
    },
    maxEntries: {
      edges,
      edge_ids: edges,
      owners,
      owner_ids: owners,
      pairs: sockets,
      backends: sockets,
      // An edge is removed before its totals are, one at a time.
      tcp_totals: tcpTotals ? edges + 1 : 1,
      ...(connectAttempts ? {} : { connect_attempts: 1 }),
    },
    prepare: (object) => {
      table = edgeTable(object);
      table.initialise();
      table.setRanges(ranges);
    },
  });
  if (table === undefined) throw new Error('the loader did not prepare the maps of the core');
  // First what is translated, so that clients that were connected already find what answers them.
  const translations = loaded.links.get('conntrack_messages');
  if (translations !== undefined) conntrack.readAll(translations);
  iterator(loaded, 'find_listeners').read();
  const finder = iterator(loaded, 'find_sockets');
  finder.read();
  const walk = iterator(loaded, 'core_walk', 'core_walk_files');
  return {
    loaded,
    table,
    ownerRodata,
    walkFinds: loaded.links.has('core_walk_files'),
    walk: () => void walk.read(),
    findOwners: () => void finder.read(),
    close: () => loaded.close(),
  };
}
