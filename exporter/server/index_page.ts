// The page at `/`: where to go. Static on purpose, nothing from the network is in it.

export const INDEX_PAGE = `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>KubeNetProbe</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}</style>
<h1>KubeNetProbe</h1>
<p>Network metrics of this node, counted in the kernel.</p>
<ul>
<li><a href="/metrics">/metrics</a>: Prometheus text or OpenMetrics</li>
<li><a href="/healthz">/healthz</a>: the agent runs</li>
<li><a href="/readyz">/readyz</a>: every enabled probe is attached and was read</li>
</ul>
</html>
`;
