// Definitions of the Prometheus operator's kinds, for validating the chart's objects by the real API server. They are
// files of the operator's Go module, which is fetched through Go's own cache.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parse } from 'yaml';
import type { KubeObject } from './api-client.ts';
import { findGo } from './build.ts';

const MODULE = 'github.com/prometheus-operator/prometheus-operator@v0.85.0';
/** As go.sum would have it. */
const SUM = 'h1:M5xLCLEoaW2IJfnuCwFzzpL+jSVQu3KGT84Pye+fW8s=';

/** CustomResourceDefinitions of PodMonitor, ServiceMonitor and PrometheusRule. Needs Go. */
export function prometheusOperatorDefinitions(): KubeObject[] {
  const go = findGo();
  if (!go) throw new Error('no Go to fetch the definitions with');
  const answer = execFileSync(go, ['mod', 'download', '-json', MODULE], {
    cwd: '/',
    encoding: 'utf8',
    env: { ...process.env, GOFLAGS: '', GONOSUMDB: '*' },
  });
  const { Dir, Sum } = JSON.parse(answer) as { Dir: string; Sum: string };
  if (Sum !== SUM) throw new Error(`${MODULE} has another checksum: ${Sum}`);
  return ['podmonitors', 'servicemonitors', 'prometheusrules'].map((plural) => {
    const path = join(Dir, 'example/prometheus-operator-crd', `monitoring.coreos.com_${plural}.yaml`);
    return parse(readFileSync(path, 'utf8')) as KubeObject;
  });
}
