// The demo as a whole: a shop with faults on a switch, and what watches it. Called by main.ts (`make demo`) and by its
// test.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Delivered, type Monitoring, startMonitoring } from './monitoring.ts';
import { NAME, Processes, removeLeftovers } from './processes.ts';
import { Shop } from './shop.ts';

export interface Demo extends Monitoring {
  readonly shop: Shop;
  stop(): Promise<void>;
}

/** Why there can be no demo on this host, if so. */
export function demoUnavailable(): string | undefined {
  if (process.getuid?.() !== 0) return 'the demo needs root, as the agent does';
  if (!existsSync(join(import.meta.dirname, '../../dist'))) return "the agent is not built: run 'make build'";
  for (const program of ['prometheus', 'prometheus-alertmanager', 'python3', 'perl', 'ip', 'setpriv']) {
    try {
      execFileSync('sh', ['-c', `command -v ${program}`], { stdio: 'ignore' });
    } catch {
      return `no ${program} on this host (Debian: prometheus prometheus-alertmanager python3 perl iproute2 iptables util-linux)`;
    }
  }
  return undefined;
}

/** Starts everything; resolves when the agent measures and Prometheus is up. Cleans up if that fails. */
export async function startDemo(onAlert: (alert: Delivered) => void): Promise<Demo> {
  removeLeftovers();
  const folder = join(tmpdir(), NAME);
  const processes = new Processes();
  let shop: Shop | undefined;
  let monitoring: Monitoring | undefined;
  const stop = async (): Promise<void> => {
    await processes.stop();
    monitoring?.webhook.closeAllConnections();
    monitoring?.webhook.close();
    shop?.remove();
    rmSync(folder, { recursive: true, force: true });
  };
  try {
    mkdirSync(folder);
    shop = new Shop(processes);
    monitoring = await startMonitoring(processes, folder, onAlert);
    return { ...monitoring, shop, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}
