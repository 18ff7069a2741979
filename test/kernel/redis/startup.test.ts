// Connections that begin while the probes are being loaded, one protocol after another: none is ignored because its own
// protocol was not there yet.
import { afterEach, expect, test } from 'vitest';
import { startMeasurement } from '../../../exporter/agent/measurement.ts';
import { defaultConfig } from '../../../exporter/config/schema.ts';
import { DURATIONS } from '../../../exporter/probes/redis/metrics.ts';
import { SILENT } from '../../../exporter/telemetry/log.ts';
import { endAll, start, sumCounts } from '../http/harness.ts';
import { RedisServer } from './harness.ts';

afterEach(endAll);

const GETS = 5;

/** Opens a connection every few milliseconds and greets on it, until a line comes; then asks on each of them. */
const CLIENT = `
import select, socket, sys, time
port, gets = int(sys.argv[1]), int(sys.argv[2])
connections = []
print("dialling", flush=True)
while len(connections) < 5000 and not select.select([sys.stdin], [], [], 0.004)[0]:
    s = socket.create_connection(("127.0.0.1", port))
    s.sendall(b"*1\\r\\n$4\\r\\nPING\\r\\n")
    assert s.recv(100) == b"+PONG\\r\\n"
    connections.append(s)
for s in connections:
    for _ in range(gets):
        s.sendall(b"*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\na\\r\\n")
        assert s.recv(100) == b"$-1\\r\\n"
print("asked", len(connections), flush=True)
sys.stdin.readline()
sys.stdin.readline()
`;

test('connections that begin while other protocols are loaded are followed', async () => {
  const server = await RedisServer.start('--maxclients', '6000');
  const client = await start('python3', ['-c', CLIENT, String(server.port), String(GETS)], /dialling/);
  const printed = new Promise<number>((resolve) => {
    client.stdout?.on('data', (text) => {
      const found = /asked (\d+)/.exec(String(text));
      if (found !== null) resolve(Number(found[1]));
    });
  });
  const config = defaultConfig();
  const measurement = await startMeasurement(
    {
      ...config,
      identity: { ...config.identity, include_self: true },
      kubernetes: { ...config.kubernetes, enabled: false },
    },
    SILENT,
  );
  try {
    client.stdin?.write('\n');
    const connections = await printed;
    expect(connections).toBeGreaterThan(20);
    expect(await server.calls()).toMatchObject({ GET: connections * GETS });
    await measurement.collector.collect();
    for (const side of ['client', 'server'] as const) {
      const points = measurement.store.family(DURATIONS[side]).points.filter(({ labels }) => {
        return labels.includes(`server_port="${server.port}"`) && labels.includes('db_operation_name="GET"');
      });
      expect({ side, count: sumCounts(points) }).toEqual({ side, count: connections * GETS });
    }
  } finally {
    await measurement.close();
  }
}, 120_000);
