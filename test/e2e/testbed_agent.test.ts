// The agent as the chart deploys it, in a testbed cluster: it starts with the manifest's rights, reads the API server
// with the chart's service account, and serves.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parseAllDocuments } from 'yaml';
import { applyChart, type RunningAgent, startAgent } from '../testbed/agent.ts';
import type { KubeObject } from '../testbed/api-client.ts';
import { buildAll } from '../testbed/build.ts';
import { Cluster } from '../testbed/cluster.ts';
import { testbedUnavailable } from '../testbed/unavailable.ts';

const root = join(import.meta.dirname, '../..');
const reason = testbedUnavailable();

describe.skipIf(reason)(`agent in the testbed${reason ? ` (skipped: ${reason})` : ''}`, () => {
  let cluster: Cluster;
  let agent: RunningAgent;

  beforeAll(async () => {
    await buildAll();
    cluster = await Cluster.start({ nodes: [{ name: 'node-a' }] });
    const manifest = readFileSync(join(root, 'charts/kubenetprobe.yaml'), 'utf8');
    const objects = parseAllDocuments(manifest).map((document) => document.toJS() as KubeObject);
    await applyChart(cluster, objects);
    agent = await startAgent(cluster, { objects, node: 'node-a', command: join(root, 'bin/kubenetprobe') });
  }, 60 * 60_000);
  afterAll(() => cluster?.stop());

  test('has the rights of the manifest and no other', () => {
    const status = readFileSync(`/proc/${agent.process.pid}/status`, 'utf8');
    const bits = (name: string): bigint =>
      BigInt(`0x${new RegExp(`^${name}:\\s*(\\w+)`, 'm').exec(status)?.[1]}`);
    // capabilities(7): CAP_NET_ADMIN 12, CAP_PERFMON 38, CAP_BPF 39.
    const granted = (1n << 12n) | (1n << 38n) | (1n << 39n);
    expect([bits('CapEff'), bits('CapPrm'), bits('CapBnd'), bits('CapInh')]).toEqual([
      granted,
      granted,
      granted,
      0n,
    ]);
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    const mounts = readFileSync(`/proc/${agent.process.pid}/mounts`, 'utf8').split('\n');
    const rootMount = mounts.findLast((line) => line.split(' ')[1] === '/');
    expect(rootMount?.split(' ')[3]).toMatch(/^ro,/);
  });

  test('serves metrics that name its node', async () => {
    const text = await agent.metrics();
    expect(text).toMatch(/^knp_build_info\{.*\} 1$/m);
    const status = (await (await fetch(`${agent.url}/api/status`)).json()) as { pid: number };
    expect(status.pid).toBe(agent.process.pid);
  });

  test('ends cleanly', async () => {
    await agent.stop('SIGTERM');
    expect(await agent.process.ended).toContain('status 0');
  });
});
