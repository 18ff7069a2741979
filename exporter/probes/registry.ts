// All probes, one line each; nothing else stands here. The configuration, the catalogue, the documents, the chart and the
// agent take them from here, by way of definitions.ts.
export { http } from './http/definition.ts';
export { redis } from './redis/definition.ts';
export { tcp } from './tcp/definition.ts';
