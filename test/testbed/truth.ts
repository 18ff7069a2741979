// The ground truth of a run: what every pair of peers counted, from both ends, and whether the ends agree.
import type { Counts } from './peers.ts';

function merged(...parts: (Record<string, Counts> | undefined)[]): Record<string, Counts> {
  const sums: Record<string, Counts> = {};
  for (const part of parts) {
    for (const [who, counts] of Object.entries(part ?? {})) {
      sums[who] ??= emptyCounts();
      addTo(sums[who], counts);
    }
  }
  return sums;
}

/** One client, what it dialled, and who answered; counted by the client. */
export interface PairTruth extends Counts {
  /** `namespace/pod`, or `external/name`. */
  readonly client: string;
  readonly server: string;
  /** `address:port` as dialled. */
  readonly dialled: string;
  /** `namespace/service` when a Service's address was dialled. */
  readonly service?: string | undefined;
}

function emptyCounts(): Counts {
  return { connections: 0, requests: 0, sent: 0, received: 0, failed: 0 };
}

function addTo(total: Counts, more: Counts): void {
  total.connections += more.connections;
  total.requests += more.requests;
  total.sent += more.sent;
  total.received += more.received;
  total.failed += more.failed;
}

export class Truth {
  readonly #pairs = new Map<string, PairTruth>();
  /** server → client → counts, of servers that still run. */
  readonly #served = new Map<string, Record<string, Counts>>();
  /** The same of those that ended; a pod's container may have been restarted. */
  readonly #retired = new Map<string, Record<string, Counts>>();

  /** Adds what one call came to, per server that answered. */
  addCall(
    client: string,
    dialled: string,
    service: string | undefined,
    result: Record<string, Counts>,
  ): void {
    for (const [server, counts] of Object.entries(result)) {
      const key = `${client} ${dialled} ${server}`;
      let pair = this.#pairs.get(key);
      if (!pair) {
        pair = { client, server, dialled, service, ...emptyCounts() };
        this.#pairs.set(key, pair);
      }
      addTo(pair, counts);
    }
  }

  /** What a server's processes counted from their start until now; the last word counts. */
  setServed(server: string, ...served: Record<string, Counts>[]): void {
    this.#served.set(server, merged(...served));
  }

  /** The last word of a server that ends now. */
  retire(server: string, served: Record<string, Counts>): void {
    this.#retired.set(server, merged(this.#retired.get(server), served));
    this.#served.delete(server);
  }

  pairs(): PairTruth[] {
    return [...this.#pairs.values()];
  }

  /** Sums by client and server whatever was dialled, or by other parts of a pair. */
  sums(
    key: (pair: PairTruth) => string = ({ client, server }) => `${client} → ${server}`,
  ): Map<string, Counts> {
    const sums = new Map<string, Counts>();
    for (const pair of this.#pairs.values()) {
      const total = sums.get(key(pair)) ?? emptyCounts();
      addTo(total, pair);
      sums.set(key(pair), total);
    }
    return sums;
  }

  /** Where the two ends of a pair counted differently: one sentence each; empty when all agree. */
  disagreements(): string[] {
    const byClient = this.sums();
    const sentences: string[] = [];
    const seen = new Set<string>();
    for (const server of new Set([...this.#served.keys(), ...this.#retired.keys()])) {
      const clients = merged(this.#served.get(server), this.#retired.get(server));
      for (const [client, theirs] of Object.entries(clients)) {
        const key = `${client} → ${server}`;
        seen.add(key);
        const ours = byClient.get(key) ?? emptyCounts();
        for (const [mine, its] of MIRRORED) {
          if (ours[mine] === theirs[its]) continue;
          sentences.push(`${key}: ${mine} by the client ${ours[mine]}, ${its} by the server ${theirs[its]}`);
        }
      }
    }
    for (const key of byClient.keys()) {
      const server = key.slice(key.indexOf(' → ') + 3);
      if (server !== '?' && !seen.has(key)) sentences.push(`${key}: counted by the client alone`);
    }
    return sentences;
  }
}

const MIRRORED: [keyof Counts, keyof Counts][] = [
  ['connections', 'connections'],
  ['requests', 'requests'],
  ['sent', 'received'],
  ['received', 'sent'],
];
