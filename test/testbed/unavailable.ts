// Whether clusters (control plane, namespaces, rules, cgroups) can run on this machine; tests skip with the reason.
import { execFileSync } from 'node:child_process';
import { availableCgroupVersions } from './cgroups.ts';
import { controlPlaneUnavailable } from './control-plane.ts';

/** One sentence that says what is missing, or undefined. */
export function testbedUnavailable(): string | undefined {
  const reason = controlPlaneUnavailable();
  if (reason) return reason;
  if (process.getuid?.() !== 0) return 'network namespaces need root';
  if (availableCgroupVersions().length === 0) return 'no cgroup hierarchy is mounted';
  for (const command of ['ip', 'nsenter', 'iptables-restore', 'nft']) {
    try {
      execFileSync(command, ['-V'], { stdio: 'ignore' });
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return `${command} is not installed`;
    }
  }
  return undefined;
}
