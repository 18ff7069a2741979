// What the attribution tests compare: numbers per pair of workloads, once as the programs counted them, once as the
// agent's /metrics have them.
import { parseExposition, type TextSample } from '../../exporter/cli/prometheus_text.ts';

/** As the reporting side saw it. `requests`: of HTTP. */
export interface PairCounts {
  connections: number;
  sent: number;
  received: number;
  requests: number;
}

export interface WorkloadName {
  readonly name: string;
  readonly namespace: string;
  readonly kind: string;
}

/** Labels of a pair, as one text. */
export interface PairKey {
  readonly reporter: 'client' | 'server';
  readonly client: WorkloadName;
  readonly server: WorkloadName;
  /** Empty where none was dialled. */
  readonly service: string;
  readonly port: number | string;
}

const FIELDS: Readonly<Record<string, keyof PairCounts>> = {
  knp_tcp_connections_opened_total: 'connections',
  knp_tcp_sent_bytes_total: 'sent',
  knp_tcp_received_bytes_total: 'received',
  http_client_request_duration_seconds_count: 'requests',
  http_server_request_duration_seconds_count: 'requests',
};

const text = ({ name, namespace, kind }: WorkloadName) => `${kind} ${namespace}/${name}`;

export class Ledger {
  readonly pairs = new Map<string, PairCounts>();

  add({ reporter, client, server, service, port }: PairKey, counts: Partial<PairCounts>): void {
    const key = `${reporter}: ${text(client)} → ${text(server)} by '${service}' at ${port}`;
    const total = this.pairs.get(key) ?? { connections: 0, sent: 0, received: 0, requests: 0 };
    for (const [field, value] of Object.entries(counts)) total[field as keyof PairCounts] += value;
    this.pairs.set(key, total);
  }

  copy(): Ledger {
    return this.minus(new Ledger());
  }

  /** What came since `before`; pairs without anything are left out. */
  minus(before: Ledger): Ledger {
    const difference = new Ledger();
    for (const [key, counts] of this.pairs) {
      const then = before.pairs.get(key) ?? { connections: 0, sent: 0, received: 0, requests: 0 };
      const left = {
        connections: counts.connections - then.connections,
        sent: counts.sent - then.sent,
        received: counts.received - then.received,
        requests: counts.requests - then.requests,
      };
      if (Object.values(left).some((value) => value !== 0)) difference.pairs.set(key, left);
    }
    return difference;
  }

  /** Over all pairs whose key the pattern matches. */
  sum(pattern: RegExp): PairCounts {
    const total = { connections: 0, sent: 0, received: 0, requests: 0 };
    for (const [key, counts] of this.pairs) {
      if (!pattern.test(key)) continue;
      for (const field of Object.keys(total) as (keyof PairCounts)[]) total[field] += counts[field];
    }
    return total;
  }

  /** Without the requests, where the HTTP probe is not there. */
  withoutRequests(): Ledger {
    const rest = this.copy();
    for (const counts of rest.pairs.values()) counts.requests = 0;
    return rest.copy();
  }

  keys(pattern: RegExp): string[] {
    return [...this.pairs.keys()].filter((key) => pattern.test(key));
  }

  /** Sentences about what differs; empty when all is equal. */
  differences(measured: Ledger): string[] {
    const sentences: string[] = [];
    for (const key of new Set([...this.pairs.keys(), ...measured.pairs.keys()])) {
      const [truth, found] = [this, measured].map(({ pairs }) => JSON.stringify(pairs.get(key) ?? null));
      if (truth !== found) sentences.push(`${key}: is ${truth}, measured ${found}`);
    }
    return sentences.sort();
  }
}

/** The pairs in an agent's /metrics whose server port is one of these: other tests' traffic has others. */
export function measuredLedger(exposition: string, ports: ReadonlySet<string>): Ledger {
  const ledger = new Ledger();
  for (const sample of parseExposition(exposition, (name) => name in FIELDS))
    addSample(ledger, sample, ports);
  return ledger.copy();
}

function addSample(ledger: Ledger, { name, labels, value }: TextSample, ports: ReadonlySet<string>): void {
  const field = FIELDS[name];
  const { server_port: port = '' } = labels;
  if (field === undefined || !ports.has(port)) return;
  const end = (role: 'client' | 'server'): WorkloadName => ({
    name: labels[`${role}_workload`] ?? '',
    namespace: labels[`${role}_namespace`] ?? '',
    kind: labels[`${role}_kind`] ?? '',
  });
  ledger.add(
    {
      reporter: labels.reporter === 'server' ? 'server' : 'client',
      client: end('client'),
      server: end('server'),
      service: labels.server_service ?? '',
      port,
    },
    { [field]: value },
  );
}
