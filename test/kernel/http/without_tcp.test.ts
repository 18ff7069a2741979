// HTTP needs edges and owners, not the TCP probe: with that one off it counts the same, and TCP counts nothing.
import { afterEach, expect, test } from 'vitest';
import { endAll, h2load, METHOD_STATUS_ROUTE, Nginx, Probe } from './harness.ts';

afterEach(endAll);

const REQUESTS = 500;

test('requests by edge with the TCP probe off', async () => {
  const nginx = await Nginx.start('location / { return 200 "hello\\n"; } location /missing { return 404; }');
  const probe = new Probe({ tcp: false });
  try {
    await h2load(nginx.url('/hello'), REQUESTS, 10);
    await h2load(nginx.url('/missing'), REQUESTS, REQUESTS); // a connection for each
    const labels = { server_port: nginx.port };
    const expected = { 'GET 200 /hello': REQUESTS, 'GET 404 /missing': REQUESTS };
    expect(await probe.table('server', labels, METHOD_STATUS_ROUTE)).toEqual(expected);
    expect(await probe.table('client', labels, METHOD_STATUS_ROUTE)).toEqual(expected);
    for (const side of ['client', 'server'] as const) {
      const points = probe.points(`http.${side}.request.duration`, labels);
      // Both ends are known, and over what they speak.
      for (const point of points)
        expect(point.labels).toMatch(/client_workload="h2load".*server_workload="nginx".*transport="tcp"/);
      expect(points.length).toBeGreaterThan(0);
    }
    expect(probe.core.loaded.links.has('tcp_reset_sent')).toBe(false);
    const totals = probe.core.loaded.map('tcp_totals');
    expect([totals.count(), totals.maxEntries]).toEqual([0, 1]);
  } finally {
    probe.close();
    nginx.remove();
  }
});
