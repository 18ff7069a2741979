// The checks of `doctor` on this kernel and this process: each by looking or by really trying. No probe is loaded.
import { statSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import type { Config } from '../config/schema.ts';
import { detectCgroupMode } from '../identity/cgroup_mode.ts';
import { silence } from '../kernel/conntrack.ts';
import { type Feature, KernelFeatures } from '../kernel/features.ts';
import { PROBES } from '../probes/definitions.ts';

/** `missing`: the agent works without it. `failed`: it does not. */
export type CheckState = 'ok' | 'missing' | 'failed';

export interface Check {
  name: string;
  state: CheckState;
  /** What was found, or why it is missing and what to do. */
  detail: string;
}

/** Optional abilities of the kernel, with what the agent does by them. */
const FEATURES: readonly { feature: Feature; use: string }[] = [
  { feature: 'tp_btf', use: 'connections and the portable payload hooks' },
  { feature: 'fentry', use: 'payload hooks, the cheapest' },
  { feature: 'kprobe', use: 'payload hooks where the others are missing' },
  { feature: 'tracepoint:sock_send_length', use: 'payload hooks without fentry and kprobes' },
  { feature: 'helper:bpf_loop', use: 'protocols with nested structure' },
  { feature: 'map:ringbuf', use: 'sampled requests' },
  { feature: 'tracefs', use: 'plain tracepoints' },
];

function guarded(name: string, check: () => Check): Check {
  try {
    return check();
  } catch (error) {
    return { name, state: 'failed', detail: error instanceof Error ? error.message : String(error) };
  }
}

/** Whether the agent can work here at all; the first thing that prevents it is said with what to do. */
function preflight(features: KernelFeatures): Check {
  const problem = features.preflight();
  const detail = problem?.sentence ?? `Linux ${features.release} and this process' rights are sufficient`;
  return { name: 'preflight', state: problem === undefined ? 'ok' : 'failed', detail };
}

function btf(features: KernelFeatures): Check {
  return { name: 'BTF', state: 'ok', detail: `${features.btf.count} types in /sys/kernel/btf/vmlinux` };
}

const HELD: readonly [string, bigint][] = [
  ['CAP_BPF', 39n],
  ['CAP_PERFMON', 38n],
  ['CAP_NET_ADMIN', 12n],
  ['CAP_SYS_ADMIN', 21n],
  ['CAP_SYS_PTRACE', 19n],
];

function capabilities(features: KernelFeatures): Check {
  const held = HELD.filter(([, bit]) => ((features.capabilities >> bit) & 1n) === 1n).map(([name]) => name);
  const detail = held.length === 0 ? 'none of those that matter' : held.join(', ');
  return { name: 'capabilities', state: held.length === 0 ? 'failed' : 'ok', detail };
}

function lockdown(features: KernelFeatures): Check {
  const mode = features.lockdown;
  return { name: 'lockdown', state: mode === 'confidentiality' ? 'failed' : 'ok', detail: mode };
}

function cgroups(config: Config): Check {
  const { layout, mode, controller, mountpoint } = detectCgroupMode({ proc: config.identity.proc_path });
  const read = mode === 'v1' ? `names from v1 ${controller}` : 'names from v2';
  const where = mountpoint === undefined ? 'not mounted here' : `at ${mountpoint}`;
  return { name: 'cgroups', state: 'ok', detail: `${layout}, ${read}, ${where}` };
}

function tracking(): Check {
  const reason = silence();
  const use = 'the pod behind a Service';
  return reason === undefined
    ? { name: 'conntrack', state: 'ok', detail: use }
    : { name: 'conntrack', state: 'missing', detail: `${reason} (${use})` };
}

const FILES = [
  '../../build/native/knp.node',
  ...['core', ...PROBES.flatMap(({ objects }) => objects)].map((object) => `../../build/bpf/${object}.bpf.o`),
];

function files(): Check {
  const missing = FILES.map((file) => fileURLToPath(new URL(file, import.meta.url))).filter(
    (file) => statSync(file, { throwIfNoEntry: false }) === undefined,
  );
  if (missing.length === 0) return { name: 'files', state: 'ok', detail: 'addon and BPF programs are built' };
  return { name: 'files', state: 'failed', detail: `missing: ${missing.join(', ')}; run 'make build'` };
}

function feature(features: KernelFeatures, { feature, use }: (typeof FEATURES)[number]): Check {
  const reason = features.missing(feature);
  const detail = reason === undefined ? use : `${reason} (${use})`;
  return { name: feature.replace(/^[a-z]+:/, ''), state: reason === undefined ? 'ok' : 'missing', detail };
}

/** All checks, in the order in which they are shown. */
export function kernelChecks(config: Config, features = new KernelFeatures()): Check[] {
  const checks = [
    guarded('preflight', () => preflight(features)),
    guarded('files', files),
    guarded('BTF', () => btf(features)),
    guarded('capabilities', () => capabilities(features)),
    guarded('lockdown', () => lockdown(features)),
    guarded('cgroups', () => cgroups(config)),
    guarded('conntrack', tracking),
  ];
  // Without rights or type information every feature would be missing for that one reason, already said.
  if (checks[0]?.state === 'ok') {
    for (const entry of FEATURES) checks.push(guarded(entry.feature, () => feature(features, entry)));
  }
  return checks;
}
