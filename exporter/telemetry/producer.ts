// The store as an OpenTelemetry MetricProducer: cumulative data points with the time since when each one counts.
// Read by out/otlp_metrics.ts; any MetricReader can use it as well.
import { type HrTime, ValueType } from '@opentelemetry/api';
import { type InstrumentationScope, millisToHrTime } from '@opentelemetry/core';
import type { Resource } from '@opentelemetry/resources';
import {
  AggregationTemporality,
  type CollectionResult,
  DataPointType,
  type MetricData,
  type MetricProducer,
} from '@opentelemetry/sdk-metrics';
import { attributeDefinition, labelName, type MetricDefinition } from './catalogue.ts';
import type { Collector } from './collector.ts';
import { parseLabels } from './label_text.ts';
import type { Family, Point } from './store.ts';

/** Makes a producer; each `collect` runs (or shares) a collection. It never rejects. */
export function createMetricProducer(
  collector: Collector,
  resource: Resource,
  scope: InstrumentationScope,
): MetricProducer {
  return {
    async collect(): Promise<CollectionResult> {
      const { families, failures, valid, endMillis } = await collector.collect();
      const errors = [...failures].map(([source, reason]) => new Error(`source ${source}: ${reason}`));
      const end = millisToHrTime(endMillis);
      const shown = valid ? families.filter((family) => family.points.length > 0) : [];
      const metrics = shown.map((family) => metricData(family, end));
      const scopeMetrics = metrics.length === 0 ? [] : [{ scope, metrics }];
      return { resourceMetrics: { resource, scopeMetrics }, errors };
    },
  };
}

function metricData(family: Family, endTime: HrTime): MetricData {
  const { definition, points } = family;
  const { name, description, unit, kind } = definition;
  const base = (valueType: ValueType) => ({
    descriptor: { name, description, unit, valueType },
    aggregationTemporality: AggregationTemporality.CUMULATIVE,
  });
  const attributesOf = attributeReader(definition);
  const common = (point: Point) => ({
    startTime: millisToHrTime(point.startMillis),
    endTime,
    attributes: attributesOf(point),
  });
  if (kind === 'histogram') {
    const boundaries = [...family.bounds];
    const dataPoints = points.map((point) => {
      const buckets = { boundaries, counts: [...(point.counts ?? [])] };
      return { ...common(point), value: { buckets, sum: point.sum, count: point.value } };
    });
    return { ...base(ValueType.DOUBLE), dataPointType: DataPointType.HISTOGRAM, dataPoints };
  }
  const dataPoints = points.map((point) => ({ ...common(point), value: point.value }));
  if (kind === 'gauge') return { ...base(ValueType.DOUBLE), dataPointType: DataPointType.GAUGE, dataPoints };
  // Things and bytes are counted in whole numbers; only time comes in fractions.
  const whole = unit !== 's' && points.every(({ value }) => Number.isSafeInteger(value));
  return {
    ...base(whole ? ValueType.INT : ValueType.DOUBLE),
    dataPointType: DataPointType.SUM,
    isMonotonic: kind === 'counter',
    dataPoints,
  };
}

/** Attributes of a point by OpenTelemetry name, made once per point. */
function attributeReader(definition: MetricDefinition): (point: Point) => Record<string, string | number> {
  const names = new Map<string, string>();
  const integers = new Set<string>();
  for (const attribute of definition.attributes) {
    names.set(labelName(attribute), attribute);
    if (attributeDefinition(attribute).type === 'int') integers.add(attribute);
  }
  return (point) => {
    point.attributes ??= Object.fromEntries(
      parseLabels(point.labels).map(([label, value]) => {
        const name = names.get(label) ?? label;
        return [name, integers.has(name) && /^\d{1,15}$/.test(value) ? Number(value) : value];
      }),
    );
    return point.attributes;
  };
}
