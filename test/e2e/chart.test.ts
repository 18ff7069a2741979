// The chart: is what is generated up to date, does every combination of values render, and does the real API server
// take every object, field by field, and grant the service account what the agent needs and no more?
import { execFileSync } from 'node:child_process';
import { cpSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { parse, parseAllDocuments, stringify } from 'yaml';
import { generatedFiles, MANIFEST, plainManifest } from '../../charts/generate.ts';
import { loadConfig } from '../../exporter/config/load.ts';
import { defaultConfig } from '../../exporter/config/schema.ts';
import type { KubeObject } from '../testbed/api-client.ts';
import { buildAll } from '../testbed/build.ts';
import { type ControlPlane, controlPlaneUnavailable, startControlPlane } from '../testbed/control-plane.ts';
import { prometheusOperatorDefinitions } from '../testbed/crds.ts';
import { helm, helmUnavailable } from '../testbed/helm.ts';

const charts = join(import.meta.dirname, '../../charts');
const chart = join(charts, 'kubenetprobe');
const noHelm = helmUnavailable();
const noApiServer = noHelm ?? controlPlaneUnavailable();
const work = mkdtempSync(join(tmpdir(), 'knp-chart-'));
afterAll(() => rmSync(work, { recursive: true, force: true }));

/** The matrix: each entry changes what others leave alone, and the last has everything at once. */
const MATRIX: Record<string, Record<string, unknown>> = {
  defaults: {},
  'pod network with a policy': {
    hostNetwork: false,
    networkPolicy: {
      enabled: true,
      from: [{ namespaceSelector: { matchLabels: { name: 'monitoring' } } }],
      extraEgress: [{ ports: [{ port: 4317, protocol: 'TCP' }] }],
    },
  },
  'Prometheus operator': {
    podMonitor: { enabled: true, labels: { release: 'prometheus' } },
    serviceMonitor: { enabled: true, namespace: 'monitoring', interval: '30s' },
    prometheusRule: { enabled: true, labels: { release: 'prometheus' } },
    dashboards: { enabled: true, annotations: { folder: 'Network' } },
  },
  'nothing of its own': {
    serviceAccount: { create: false, name: 'existing' },
    rbac: { create: false },
    service: { enabled: false },
  },
  'OTLP with a token': {
    config: {
      otlp: {
        traces: {
          enabled: true,
          endpoint: 'https://tempo:4317',
          headers: { authorization: { env: 'TOKEN' } },
        },
      },
    },
    env: [{ name: 'TOKEN', valueFrom: { secretKeyRef: { name: 'otlp', key: 'token' } } }],
  },
  'other names, other places': {
    nameOverride: 'probe',
    fullnameOverride: 'network-probe',
    image: { repository: 'registry.example/knp', digest: `sha256:${'0'.repeat(64)}`, pullPolicy: 'Always' },
    imagePullSecrets: [{ name: 'pull' }],
    config: { listen: '127.0.0.1:9999', detail: 'pod' },
    nodeSelector: { pool: 'a' },
    tolerations: [],
    affinity: {
      nodeAffinity: {
        requiredDuringSchedulingIgnoredDuringExecution: {
          nodeSelectorTerms: [{ matchExpressions: [{ key: 'gpu', operator: 'DoesNotExist' }] }],
        },
      },
    },
    podAnnotations: { 'prometheus.io/scrape': 'true' },
    podLabels: { team: 'network' },
    priorityClassName: '',
    updateStrategy: { type: 'OnDelete' },
    extraVolumes: [{ name: 'ca', secret: { secretName: 'ca' } }],
    extraVolumeMounts: [{ name: 'ca', mountPath: '/etc/ca', readOnly: true }],
  },
  OpenShift: { openshift: { enabled: true } },
};

function valuesFile(values: object): string {
  const path = join(work, 'values.yaml');
  writeFileSync(path, stringify(values));
  return path;
}

function runHelm(...args: string[]): { status: number; output: string } {
  try {
    return { status: 0, output: execFileSync(helm(), args, { encoding: 'utf8', stdio: 'pipe' }) };
  } catch (error) {
    const { status, stdout, stderr } = error as { status: number; stdout: string; stderr: string };
    return { status, output: `${stdout}${stderr}` };
  }
}

function template(values: object, directory = chart): KubeObject[] {
  const { status, output } = runHelm(
    'template',
    'knp',
    directory,
    '--namespace',
    'knp',
    '-f',
    valuesFile(values),
  );
  if (status !== 0) throw new Error(output);
  return parseAllDocuments(output).flatMap((document) => (document.toJS() as KubeObject | null) ?? []);
}

function ofKind(objects: readonly KubeObject[], kind: string): KubeObject {
  const found = objects.find((object) => object.kind === kind);
  if (!found) throw new Error(`no ${kind} among ${objects.map((object) => object.kind)}`);
  return found;
}

describe('generated files', () => {
  test.for([...generatedFiles()])('%s is what its sources yield', ([path, content]) => {
    expect(readFileSync(join(charts, path), 'utf8')).toBe(content);
  });

  test.skipIf(noHelm)('the plain manifest is what the chart renders', () => {
    expect(readFileSync(join(charts, MANIFEST), 'utf8')).toBe(plainManifest());
  });
});

describe.skipIf(noHelm)('rendering', () => {
  test.for(Object.entries(MATRIX))('%s: lint finds nothing', ([, values]) => {
    const { status, output } = runHelm('lint', '--strict', chart, '-f', valuesFile(values));
    expect(output).toContain('0 chart(s) failed');
    expect(output).not.toMatch(/WARNING|ERROR/);
    expect(status).toBe(0);
  });

  test.for([
    [{ config: { detail: 'pods' } }, /config\/detail/],
    [{ config: { probes: { tcp: { enable: true } } } }, /config\/probes\/tcp/],
    [{ config: { limits: { edges: 3 } } }, /config\/limits\/edges/],
    [{ image: { pullPolicy: 'Sometimes' } }, /image\/pullPolicy/],
    [{ hostnetwork: false }, /hostnetwork/],
    [{ networkPolicy: { enabled: true } }, /needs hostNetwork: false/],
  ] as const)('%o is refused and named', ([values, message]) => {
    expect(() => template(values)).toThrow(message);
  });

  test('the agent understands the configuration that it is given', async () => {
    for (const values of Object.values(MATRIX)) {
      const path = join(work, 'config.yaml');
      writeFileSync(path, ofKind(template(values), 'ConfigMap').data['config.yaml']);
      const result = await loadConfig({ file: path, env: { TOKEN: 'secret' } });
      expect(result.ok ? '' : result.message).toBe('');
    }
    writeFileSync(join(work, 'config.yaml'), ofKind(template({}), 'ConfigMap').data['config.yaml']);
    const result = await loadConfig({ file: join(work, 'config.yaml'), env: {} });
    const expected = defaultConfig();
    expect(result.ok && result.config).toEqual({ ...expected, bpf: { ...expected.bpf, stats: false } });
  });

  test('ports and probes follow the address that the agent listens on', () => {
    const containers = (objects: KubeObject[]) => ofKind(objects, 'DaemonSet').spec.template.spec.containers;
    const [byDefault] = containers(template({}));
    const { port } = new URL(`http://${defaultConfig().listen}`);
    expect(byDefault.ports).toEqual([{ name: 'metrics', containerPort: Number(port), protocol: 'TCP' }]);
    expect(byDefault.livenessProbe.httpGet).toEqual({ path: '/healthz', port: 'metrics' });
    const local = template({ config: { listen: '[::1]:9999' } });
    expect(containers(local)[0].ports[0].containerPort).toBe(9999);
    expect(containers(local)[0].readinessProbe.httpGet).toEqual({
      path: '/readyz',
      port: 'metrics',
      host: '::1',
    });
    expect(ofKind(local, 'Service').spec.ports[0].port).toBe(9999);
  });

  test('a changed configuration rolls the pods', () => {
    const checksum = (values: object) =>
      ofKind(template(values), 'DaemonSet').spec.template.metadata.annotations['checksum/config'];
    expect(checksum({ config: { detail: 'pod' } })).not.toBe(checksum({}));
    expect(checksum({ podLabels: { a: 'b' } })).toBe(checksum({}));
  });

  test('alerts and dashboards are shipped as they are, template marks included', () => {
    const copy = join(work, 'chart');
    cpSync(chart, copy, { recursive: true });
    rmSync(join(copy, 'files'), { recursive: true, force: true });
    const expr = 'rate(knp_agent_lost_total[5m]) > 0';
    const rule = { alert: 'Lost', expr, annotations: { summary: '{{ $labels.stage }} lost {{ $value }}' } };
    const dashboard = { title: 'Overview', panels: [{ legendFormat: '{{client_workload}}' }] };
    for (const folder of ['alerts', 'dashboards'])
      mkdirSync(join(copy, 'files', folder), { recursive: true });
    writeFileSync(
      join(copy, 'files/alerts/agent.yaml'),
      stringify({ groups: [{ name: 'agent', rules: [rule] }] }),
    );
    writeFileSync(join(copy, 'files/dashboards/overview.json'), JSON.stringify(dashboard));
    const off = template({}, copy).map(({ kind }) => kind);
    expect(off).not.toContain('PrometheusRule');
    const objects = template({ prometheusRule: { enabled: true }, dashboards: { enabled: true } }, copy);
    expect(ofKind(objects, 'PrometheusRule').spec.groups).toEqual([{ name: 'agent', rules: [rule] }]);
    const maps = objects.filter(
      ({ kind, metadata }) => kind === 'ConfigMap' && metadata.labels?.grafana_dashboard,
    );
    expect(maps.map(({ metadata }) => metadata.name)).toEqual(['knp-kubenetprobe-overview']);
    expect(JSON.parse(maps[0]?.data['overview.json'])).toEqual(dashboard);
  });

  test('every dashboard and every group of alerts of the project is shipped', () => {
    const files = (pattern: string): string[] => globSync(pattern, { cwd: join(charts, '..') });
    const shipped = template({ prometheusRule: { enabled: true }, dashboards: { enabled: true } });
    const titles = shipped
      .filter(({ metadata }) => metadata.labels?.grafana_dashboard)
      .flatMap(({ data }) => Object.values<string>(data).map((text) => JSON.parse(text).title));
    const dashboards = files('dashboards/generated/*.json');
    const read = (path: string): string => readFileSync(join(charts, '..', path), 'utf8');
    expect(titles.sort()).toEqual(dashboards.map((path) => JSON.parse(read(path)).title).sort());
    expect(titles.length).toBeGreaterThan(0);
    const groups = shipped
      .filter(({ kind }) => kind === 'PrometheusRule')
      .flatMap(({ spec }) => spec.groups.map(({ name }: { name: string }) => name));
    const rules = files('alerts/generated/*.yaml');
    const names = rules.flatMap((path) => parse(read(path)).groups.map(({ name }: { name: string }) => name));
    expect(groups.sort()).toEqual(names.sort());
    expect(groups.length).toBeGreaterThan(0);
  });

  test('thresholds and runbooks of the alerts are the values', () => {
    const groupsWith = (values: object): unknown[] =>
      template({ prometheusRule: { enabled: true, ...values } })
        .filter(({ kind }) => kind === 'PrometheusRule')
        .flatMap(({ spec }) => spec.groups);
    const shipped = globSync('alerts/generated/*.yaml', { cwd: join(charts, '..') }).flatMap(
      (path) => parse(readFileSync(join(charts, '..', path), 'utf8')).groups as unknown[],
    );
    expect(new Set(groupsWith({}))).toEqual(new Set(shipped));
    const changed = JSON.stringify(
      groupsWith({ runbooks: 'https://books', thresholds: { agent_cores: 0.25 } }),
    );
    expect(changed).toContain('rate5m > 0.25"');
    expect(changed).toContain('"https://books/KnpAgentCostly.md"');
    expect(changed).not.toContain('__');
  });
});

describe.skipIf(noApiServer)(`the API server${noApiServer ? ` (skipped: ${noApiServer})` : ''}`, () => {
  let plane: ControlPlane;

  beforeAll(async () => {
    await buildAll();
    plane = await startControlPlane();
    const { admin } = plane;
    for (const name of ['knp', 'monitoring', 'kubenetprobe', 'strict']) await plane.createNamespace(name);
    await admin.patch(
      { apiVersion: 'v1', kind: 'Namespace', metadata: { name: 'strict' } },
      { metadata: { labels: { 'pod-security.kubernetes.io/enforce': 'baseline' } } },
    );
    for (const definition of [...prometheusOperatorDefinitions(), securityContextConstraints()]) {
      await admin.apply(definition);
      await established(definition);
    }
  }, 60 * 60_000);
  afterAll(() => plane?.stop());

  async function established(definition: KubeObject): Promise<void> {
    const { group, versions, names } = definition.spec;
    while (
      (await plane.admin.raw('GET', `/apis/${group}/${versions[0].name}/${names.plural}`)).status !== 200
    ) {
      await sleep(50);
    }
  }

  test.for(Object.entries(MATRIX))('%s: every object is valid, no field unknown', async ([, values]) => {
    const objects = template(values);
    for (const object of objects) {
      const answer = await plane.admin.apply(object, { dryRun: true });
      expect(answer.metadata.name).toBe(object.metadata.name);
    }
    expect(objects.map(({ kind }) => kind)).toContain('DaemonSet');
  });

  test('a field with a typing error would be found', async () => {
    const daemonSet = ofKind(template({}), 'DaemonSet');
    daemonSet.spec.template.spec.hostPid = true;
    await expect(plane.admin.apply(daemonSet, { dryRun: true })).rejects.toThrow(/hostPid/);
  });

  test('the pod of the DaemonSet is admitted, and where Pod Security is enforced it is not', async () => {
    await plane.admin.apply(ofKind(template({}), 'ServiceAccount'));
    const { metadata, spec } = ofKind(template({}), 'DaemonSet').spec.template;
    const pod = (namespace: string, serviceAccountName: string): KubeObject => ({
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { ...metadata, name: 'agent', namespace },
      spec: { ...spec, serviceAccountName, nodeName: 'node-a' },
    });
    const admitted = await plane.admin.apply(pod('knp', spec.serviceAccountName), { dryRun: true });
    expect(admitted.spec.priority).toBe(2000001000);
    const [container] = admitted.spec.containers;
    expect(container.securityContext).toEqual({
      runAsUser: 0,
      runAsGroup: 0,
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'], add: ['BPF', 'PERFMON', 'NET_ADMIN'] },
    });
    await expect(plane.admin.apply(pod('strict', 'default'), { dryRun: true })).rejects.toThrow(
      /violates PodSecurity "baseline:latest".*host namespaces/,
    );
  });

  test('the service account may read four kinds and nothing else', async () => {
    for (const object of template({})) {
      if (/^(ServiceAccount|ClusterRole|ClusterRoleBinding)$/.test(object.kind))
        await plane.admin.apply(object);
    }
    const client = plane.client(await plane.tokenFor('knp-kubenetprobe', { namespace: 'knp' }));
    const readable = [
      '/api/v1/pods?fieldSelector=spec.nodeName%3Da',
      '/api/v1/services',
      '/api/v1/nodes',
      '/apis/discovery.k8s.io/v1/endpointslices',
    ];
    for (const path of readable) {
      while ((await client.raw('GET', path)).status !== 200) await sleep(20);
    }
    const review = await client.raw('POST', '/apis/authorization.k8s.io/v1/selfsubjectrulesreviews', {
      apiVersion: 'authorization.k8s.io/v1',
      kind: 'SelfSubjectRulesReview',
      spec: { namespace: 'kube-system' },
    });
    interface Rule {
      verbs: string[];
      apiGroups: string[];
      resources: string[];
    }
    // What every authenticated user may do: ask about itself.
    const common = /^(self|clustertrustbundles)/;
    const rules = (review.body.status.resourceRules as Rule[]).flatMap(({ verbs, apiGroups, resources }) =>
      resources
        .filter((name) => !common.test(name))
        .map((name) => `${apiGroups.join()}/${name}: ${verbs.join(' ')}`),
    );
    expect(rules.sort()).toEqual([
      '/nodes: get list watch',
      '/pods: get list watch',
      '/services: get list watch',
      'discovery.k8s.io/endpointslices: get list watch',
    ]);
    expect((await client.raw('GET', '/api/v1/secrets')).status).toBe(403);
    client.close();
  });

  test('the plain manifest applies as it stands', async () => {
    const objects = parseAllDocuments(readFileSync(join(charts, MANIFEST), 'utf8'));
    for (const object of objects) await plane.admin.apply(object.toJS() as KubeObject);
    const daemonSet = await plane.admin.get('/apis/apps/v1/namespaces/kubenetprobe/daemonsets/kubenetprobe');
    expect(daemonSet.spec.template.spec.hostPID).toBe(true);
  });
});

/** The kind exists on OpenShift only, and its definition is in no module; this one takes every field. */
function securityContextConstraints(): KubeObject {
  const schema = { type: 'object', 'x-kubernetes-preserve-unknown-fields': true };
  return {
    apiVersion: 'apiextensions.k8s.io/v1',
    kind: 'CustomResourceDefinition',
    metadata: {
      name: 'securitycontextconstraints.security.openshift.io',
      annotations: { 'api-approved.kubernetes.io': 'unapproved, for a test' },
    },
    spec: {
      group: 'security.openshift.io',
      scope: 'Cluster',
      names: {
        plural: 'securitycontextconstraints',
        singular: 'securitycontextconstraints',
        kind: 'SecurityContextConstraints',
      },
      versions: [{ name: 'v1', served: true, storage: true, schema: { openAPIV3Schema: schema } }],
    },
  };
}
