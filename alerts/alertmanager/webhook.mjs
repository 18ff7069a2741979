// Example of a webhook receiver: prints one line per alert that Alertmanager delivers.
//   node webhook.mjs [port]
// https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
import { createServer } from 'node:http';

const port = Number(process.argv[2] ?? 9095);

createServer(async (request, response) => {
  let body = '';
  for await (const chunk of request) body += chunk;
  try {
    const { alerts = [] } = JSON.parse(body);
    for (const { status, labels, annotations } of alerts) {
      const state = status === 'firing' ? 'FIRING  ' : 'resolved';
      process.stdout.write(`${state} ${labels.severity} ${labels.alertname}: ${annotations.summary}\n`);
      if (status === 'firing') process.stdout.write(`         ${annotations.runbook_url}\n`);
    }
    response.end();
  } catch (error) {
    response.statusCode = 400;
    response.end(`${error}\n`);
  }
}).listen(port, '127.0.0.1', function () {
  process.stdout.write(`webhook: http://127.0.0.1:${this.address().port}\n`);
});
