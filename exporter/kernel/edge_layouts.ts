// What type information says of the edge table (bpf/core/edge.h): where fields are, and the names and numbers of its
// enumerations, none of which is typed again. Used by edge_table.ts.
import type { Btf, StructLayout } from './btf.ts';

/** Names of `enum edge_role`. */
export type EdgeRole = 'client' | 'server' | 'listener';

/** Names of `enum edge_scope`: how much of the remote address the kernel kept. */
export type EdgeScope = 'exact' | 'local' | 'external' | 'range' | 'loopback';

/** Names of `enum edge_transport`. */
export type EdgeTransport = 'tcp' | 'udp';

export interface EdgeTableLayouts {
  readonly edge: StructLayout;
  readonly edge_key: StructLayout;
  readonly owner_info: StructLayout;
  readonly owner_key: StructLayout;
  readonly edge_state: StructLayout;
  readonly acceptor_key: StructLayout;
  readonly range_key: StructLayout;
  readonly range: StructLayout;
  readonly roles: ReadonlyMap<number, EdgeRole>;
  readonly scopes: ReadonlyMap<number, EdgeScope>;
  readonly transports: ReadonlyMap<number, EdgeTransport>;
  /** `enum range_kind`. */
  readonly rangeKinds: { readonly exact: number; readonly range: number };
  /** `enum fixed_id`. */
  readonly ids: { readonly node: number; readonly other: number; readonly first: number };
  /** `enum lost_stage` in order, lower case, without prefix. */
  readonly lostStages: readonly string[];
}

/** Enumerators by number: lower case, without their prefix. */
function names<T extends string>(btf: Btf, name: string, prefix: string): Map<number, T> {
  const values = btf.find(name, 'enum')?.values ?? [];
  return new Map(
    values
      .filter((entry) => entry.name.startsWith(prefix))
      .map((entry) => [Number(entry.value), entry.name.slice(prefix.length).toLowerCase() as T]),
  );
}

/** Everything that BTF says of the table. Throws where the object does not have it. */
export function edgeTableLayouts(btf: Btf): EdgeTableLayouts {
  const number = (enumName: string, name: string) => {
    const value = btf.enumerator(enumName, name);
    if (value === undefined) throw new Error(`the type information has no ${name} in enum ${enumName}`);
    return value;
  };
  const stages = names(btf, 'lost_stage', 'LOST_');
  stages.delete(number('lost_stage', 'LOST_STAGES'));
  return {
    edge: btf.layout('edge'),
    edge_key: btf.layout('edge_key'),
    owner_info: btf.layout('owner_info'),
    owner_key: btf.layout('owner_key'),
    edge_state: btf.layout('edge_state'),
    acceptor_key: btf.layout('acceptor_key'),
    range_key: btf.layout('range_key'),
    range: btf.layout('range'),
    roles: names<EdgeRole>(btf, 'edge_role', 'ROLE_'),
    scopes: names<EdgeScope>(btf, 'edge_scope', 'SCOPE_'),
    transports: names<EdgeTransport>(btf, 'edge_transport', 'TRANSPORT_'),
    rangeKinds: { exact: number('range_kind', 'RANGE_KEEP'), range: number('range_kind', 'RANGE_NAMED') },
    ids: {
      node: number('fixed_id', 'OWNER_NODE'),
      other: number('fixed_id', 'OWNER_OTHER'),
      first: number('fixed_id', 'FIRST_ID'),
    },
    lostStages: [...stages.values()],
  };
}

/** The number of a name; for names that the type itself lists. */
export function numberOf<T extends string>(of: ReadonlyMap<number, T>, wanted: T): number {
  for (const [number, name] of of) if (name === wanted) return number;
  throw new Error(`the type information has no ${wanted}`);
}
