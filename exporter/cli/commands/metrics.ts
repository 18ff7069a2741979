// `kubenetprobe metrics`: the reference of all metrics, as Markdown or JSON, rendered from the catalogue.
import type { Command } from 'commander';
import type { MetricDefinition } from '../../telemetry/catalogue.ts';

export function define(command: Command): void {
  command
    .option('--json', 'as JSON: name, Prometheus name, kind, unit, description, labels, buckets')
    .addHelpText('after', '\nExample:\n  kubenetprobe metrics --json | jq -r ".[].prometheus_name"')
    .action(async ({ json }: { json?: boolean }) => {
      if (json !== true) {
        const { renderMetricsReference } = await import('../../telemetry/reference.ts');
        process.stdout.write(renderMetricsReference());
        return;
      }
      const { CATALOGUE, labelName, prometheusName } = await import('../../telemetry/catalogue.ts');
      const metrics = CATALOGUE.map((metric: MetricDefinition) => ({
        name: metric.name,
        prometheus_name: prometheusName(metric),
        kind: metric.kind,
        unit: metric.unit,
        description: metric.description,
        labels: metric.attributes.map(labelName),
        buckets: metric.buckets,
        probe: metric.probe,
        stability: metric.stability,
      }));
      process.stdout.write(`${JSON.stringify(metrics, null, 2)}\n`);
    });
}
