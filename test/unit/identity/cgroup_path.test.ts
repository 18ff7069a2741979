// Paths as real hosts write them: one row per product, version and driver.
import { describe, expect, it } from 'vitest';
import {
  type CgroupName,
  containerIds,
  KERNEL_NAME_LIMIT,
  KERNEL_NAMES,
  kernelComponents,
  nameCgroup,
  splitCgroupPath,
  unescapeUnit,
} from '../../../exporter/identity/cgroup_path.ts';
import { containerCgroupPath } from '../../testbed/cgroups.ts';

const A = '3a1f0c9e4b7d2865f1e0d3c2b5a49687788695a4b3c2d1e0f0e1d2c3b4a59687';
const B = 'b7c94f01d3e25a6880f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a697';
const UID = '0f6c1a52-8a3e-4b53-9c1c-3d1f0a7e9b42';
const UID_ = UID.replaceAll('-', '_');
const HASH = '8ba5f6a1d3c04e2f9b7d6c5a4e3f2a1b';

const container = (containerId: string, runtime: string, podUid?: string, qos?: string): CgroupName =>
  ({ kind: 'container', containerId, runtime, ...(podUid && { podUid }), ...(qos && { qos }) }) as CgroupName;
const unit = (name: string): CgroupName => ({ kind: 'unit', unit: name });
const PROCESS: CgroupName = { kind: 'process' };

const TABLE: Record<string, readonly [path: string, expected: CgroupName][]> = {
  'Kubernetes, systemd driver': [
    [
      `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID_}.slice/cri-containerd-${A}.scope`,
      container(A, 'containerd', UID, 'burstable'),
    ],
    [
      `/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${UID_}.slice/cri-containerd-${A}.scope`,
      container(A, 'containerd', UID, 'besteffort'),
    ],
    [
      `/kubepods.slice/kubepods-pod${UID_}.slice/cri-containerd-${A}.scope`,
      container(A, 'containerd', UID, 'guaranteed'),
    ],
    [
      `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID_}.slice/crio-${A}.scope`,
      container(A, 'cri-o', UID, 'burstable'),
    ],
    [
      `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID_}.slice/crio-${A}.scope/container`,
      container(A, 'cri-o', UID, 'burstable'),
    ],
    [
      `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID_}.slice/crio-conmon-${A}.scope`,
      { kind: 'pod', podUid: UID, qos: 'burstable' },
    ],
    [
      `/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod${UID_}.slice/docker-${A}.scope`,
      container(A, 'docker', UID, 'besteffort'),
    ],
    // A static pod: its uid is the hash of its manifest.
    [
      `/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${HASH}.slice/cri-containerd-${A}.scope`,
      container(A, 'containerd', HASH, 'burstable'),
    ],
    // kubelet --cgroup-root, as kind sets it.
    [
      `/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice/kubelet-kubepods-besteffort-pod${UID_}.slice/cri-containerd-${A}.scope`,
      container(A, 'containerd', UID, 'besteffort'),
    ],
    // runc with the cgroupfs driver below a kubelet with the systemd driver.
    [
      `/system.slice/containerd.service/kubepods-burstable-pod${UID_}.slice:cri-containerd:${A}`,
      container(A, 'containerd', UID, 'burstable'),
    ],
  ],
  'Kubernetes, cgroupfs driver': [
    [`/kubepods/burstable/pod${UID}/${A}`, container(A, 'unknown', UID, 'burstable')],
    [`/kubepods/besteffort/pod${UID}/${A}`, container(A, 'unknown', UID, 'besteffort')],
    [`/kubepods/pod${UID}/${A}`, container(A, 'unknown', UID, 'guaranteed')],
    [`/kubepods/burstable/pod${UID}/crio-${A}`, container(A, 'cri-o', UID, 'burstable')],
    [`/kubepods/burstable/pod${UID}/crio-conmon-${A}`, { kind: 'pod', podUid: UID, qos: 'burstable' }],
    [`/kubepods/burstable/pod${HASH}/${A}`, container(A, 'unknown', HASH, 'burstable')],
    [`/kubepods/burstable/pod${UID}`, { kind: 'pod', podUid: UID, qos: 'burstable' }],
  ],
  'nested nodes': [
    // kind and k3d: the node is a Docker container.
    [`/docker/${B}/kubelet/kubepods/burstable/pod${UID}/${A}`, container(A, 'unknown', UID, 'burstable')],
    [
      `/system.slice/docker-${B}.scope/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod${UID_}.slice/cri-containerd-${A}.scope`,
      container(A, 'containerd', UID, 'guaranteed'),
    ],
    [`/docker/${B}/system.slice/kubelet.service`, container(B, 'docker')],
    // k3s on the host puts pods below its own service with some settings.
    [
      `/system.slice/k3s.service/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod${UID_}.slice/cri-containerd-${A}.scope`,
      container(A, 'containerd', UID, 'burstable'),
    ],
    ['/system.slice/k3s.service', unit('k3s.service')],
    // Docker in a pod: the pod's container is what Kubernetes knows.
    [`/kubepods/burstable/pod${UID}/${A}/docker/${B}`, container(A, 'unknown', UID, 'burstable')],
    // Docker in Docker without Kubernetes: the inner one.
    [`/docker/${A}/docker/${B}`, container(B, 'docker')],
    // As a pod with a cgroup namespace of its own sees its neighbours.
    [
      `/../../kubepods-besteffort-pod${UID_}.slice/cri-containerd-${A}.scope`,
      container(A, 'containerd', UID, 'besteffort'),
    ],
    ['/../../../system.slice/sshd.service', unit('sshd.service')],
  ],
  'containers without Kubernetes': [
    [`/docker/${A}`, container(A, 'docker')],
    [`/system.slice/docker-${A}.scope`, container(A, 'docker')],
    [`/system.slice/docker-${A}.scope/init.scope`, container(A, 'docker')],
    [`/user.slice/user-1000.slice/user@1000.service/user.slice/docker-${A}.scope`, container(A, 'docker')],
    [`/machine.slice/libpod-${A}.scope`, container(A, 'podman')],
    [`/machine.slice/libpod-${A}.scope/container`, container(A, 'podman')],
    [`/machine.slice/libpod-conmon-${A}.scope`, PROCESS],
    [`/libpod_parent/libpod-${A}`, container(A, 'podman')],
    [
      `/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-${A}.scope/container`,
      container(A, 'podman'),
    ],
    [`/system.slice/web.service/libpod-payload-${A}`, container(A, 'podman')],
    [`/system.slice/nerdctl-${A}.scope`, container(A, 'containerd')],
    [`/default/${A}`, container(A, 'containerd')],
    [`/moby/${A}`, container(A, 'docker')],
    [`/ecs/0a1b2c3d4e5f60718293a4b5c6d7e8f9/${A}`, container(A, 'unknown')],
    [`/ecstasks.slice/ecstasks-0a1b2c.slice/docker-${A}.scope`, container(A, 'docker')],
    [
      '/ecs/0a1b2c3d4e5f60718293a4b5c6d7e8f9/0a1b2c3d4e5f60718293a4b5c6d7e8f9-1234567890',
      container('0a1b2c3d4e5f60718293a4b5c6d7e8f9-1234567890', 'ecs'),
    ],
    ['/lxc/web1', container('web1', 'lxc')],
    ['/lxc.payload.web1/system.slice/nginx.service', container('web1', 'lxc')],
    ['/lxc.monitor.web1', PROCESS],
    [
      '/machine.slice/systemd-nspawn@deb.service/payload/system.slice/cron.service',
      container('deb', 'nspawn'),
    ],
    ['/machine.slice/machine-qemu\\x2d3\\x2dbuild.scope/libvirt/emulator', container('build', 'machine')],
    ['/nomad.slice/share.slice/1c0a4b1e-5b9f-4f0e-9a52-6a1de6fe7c61.api.scope', container('api', 'nomad')],
    [
      '/garden/1c0a4b1e-5b9f-4f0e-9a52-6a1de6fe7c61',
      container('1c0a4b1e-5b9f-4f0e-9a52-6a1de6fe7c61', 'garden'),
    ],
    ['/docker/buildkit/jh2r0p4wdpn7zmfh1x8t9q3ab', container('jh2r0p4wdpn7zmfh1x8t9q3ab', 'buildkit')],
  ],
  'systemd units': [
    ['/system.slice/nginx.service', unit('nginx.service')],
    ['/system.slice/nginx.service (deleted)', unit('nginx.service')],
    ['/system.slice/nginx.service/worker', unit('nginx.service')],
    ['/system.slice/system-postgresql.slice/postgresql@15-main.service', unit('postgresql@15-main.service')],
    ['/system.slice/system-getty.slice/getty@tty1.service', unit('getty@tty1.service')],
    [
      '/system.slice/system-systemd\\x2dfsck.slice/systemd-fsck@dev-disk-by\\x2duuid-1234.service',
      unit('systemd-fsck@dev-disk-by-uuid-1234.service'),
    ],
    ['/system.slice/caf\\xc3\\xa9.service', unit('café.service')],
    // Accept=yes: one instance per connection must not be one name per connection.
    ['/system.slice/system-sshd.slice/sshd@7-10.0.0.1:22-10.0.0.9:51234.service', unit('sshd@.service')],
    ['/system.slice/ssh@0-[fd00::2]:22-[fd00::9]:51234.service', unit('ssh@.service')],
    ['/system.slice/varlink@3-1234-0.service', unit('varlink@.service')],
    ['/system.slice/_cpu.service', unit('cpu.service')],
    ['/system.slice/rpcbind.socket', unit('rpcbind.socket')],
    ['/system.slice/srv-nfs.mount', unit('srv-nfs.mount')],
    ['/openrc.nginx', unit('nginx')],
  ],
  'cgroups of many programs': [
    ['/', PROCESS],
    ['', PROCESS],
    ['/init.scope', PROCESS],
    ['/system.slice', PROCESS],
    ['/user.slice/user-1000.slice/session-3.scope', PROCESS],
    ['/user.slice/user-1000.slice/session-c2.scope', PROCESS],
    ['/user.slice/user-1000.slice/user@1000.service/init.scope', PROCESS],
    ['/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-2114.scope', PROCESS],
    ['/user.slice/user-1000.slice/user@1000.service/app.slice/dbus.service', PROCESS],
    ['/system.slice/run-r0123456789abcdef0123456789abcdef.scope', PROCESS],
    ['/system.slice/run-u1234.service', PROCESS],
    ['/system.slice/run-p5121-i5421.service', PROCESS],
    ['/process_api/34759e026c95a768d66a20e5c0ae649c', PROCESS],
    ['/kubepods.slice', PROCESS],
    ['/kubepods/burstable', PROCESS],
  ],
};

describe('paths of /proc/PID/cgroup', () => {
  for (const [group, rows] of Object.entries(TABLE)) {
    it.each(rows)(`${group}: %s`, (path, expected) => {
      expect(nameCgroup(splitCgroupPath(path))).toEqual(expected);
    });
  }
});

/** What the kernel side captures of a path: up to 4 names, leaf first, in NUL-padded fields of 96 bytes. */
function capture(path: string): Uint8Array[] {
  const names = path.split('/').filter((part) => part !== '' && part !== '..');
  const fields = names
    .reverse()
    .slice(0, KERNEL_NAMES)
    .map((name) => {
      const field = new Uint8Array(KERNEL_NAME_LIMIT + 1);
      field.set(Buffer.from(name).subarray(0, KERNEL_NAME_LIMIT));
      return field;
    });
  while (fields.length < KERNEL_NAMES) fields.push(new Uint8Array(KERNEL_NAME_LIMIT + 1));
  return fields;
}

describe('names captured in the kernel', () => {
  // The capture loses what is above four names, and the end of a long one: those rows have an answer of their own.
  const LOST: Record<string, CgroupName> = {
    [`/system.slice/containerd.service/kubepods-burstable-pod${UID_}.slice:cri-containerd:${A}`]: {
      kind: 'cut',
      podUid: UID,
    },
    [`/kubepods/burstable/pod${UID}/${A}/docker/${B}`]: container(A, 'unknown', UID),
    '/user.slice/user-1000.slice/user@1000.service/app.slice/app-gnome-firefox-2114.scope': PROCESS,
    '/system.slice/nginx.service (deleted)': unit('nginx.service'),
  };
  for (const [group, rows] of Object.entries(TABLE)) {
    it.each(rows)(`${group}: %s`, (path, expected) => {
      const captured = capture(path.replace(' (deleted)', ''));
      expect(nameCgroup(kernelComponents(captured))).toEqual(LOST[path] ?? expected);
    });
  }

  it('a long unit name that was cut is not taken for a cgroup of many programs', () => {
    const long = `${'x'.repeat(120)}.service`;
    expect(nameCgroup(kernelComponents(capture(`/system.slice/${long}`)))).toEqual({ kind: 'cut' });
    expect(nameCgroup(splitCgroupPath(`/system.slice/${long}`))).toEqual(unit(long));
  });

  it('survives any bytes', () => {
    const noise = Uint8Array.from({ length: 96 }, (_, index) => (index * 37 + 129) & 0xff);
    expect(nameCgroup(kernelComponents([noise]))).toMatchObject({
      kind: expect.stringMatching(/process|cut/),
    });
    expect(kernelComponents(['', 'a'])).toEqual([]);
    expect(kernelComponents(['leaf\0junk', 'root', '/'])).toEqual(['root', 'leaf']);
  });
});

describe('every combination that kubelet and the runtimes make', () => {
  // The testbed writes paths from the sources of kubelet, containerd and CRI-O, independently of what is tested here.
  const drivers = ['systemd', 'cgroupfs'] as const;
  const runtimes = ['containerd', 'cri-o', 'cri-o-crun', 'docker'] as const;
  const classes = ['Guaranteed', 'Burstable', 'BestEffort'] as const;
  const combinations = drivers.flatMap((driver) =>
    runtimes.flatMap((runtime) =>
      classes.flatMap((qosClass) =>
        ['', 'kubelet'].flatMap((root) =>
          [UID, HASH].map((podUid) => ({ driver, runtime, qosClass, root, podUid })),
        ),
      ),
    ),
  );
  it.each(combinations)('$driver $runtime $qosClass $root $podUid', (combination) => {
    const path = containerCgroupPath({ ...combination, containerId: A });
    const { driver, runtime, qosClass, podUid } = combination;
    const bare = driver === 'cgroupfs' && !runtime.startsWith('cri-o');
    const expected = container(
      A,
      bare ? 'unknown' : runtime.replace('-crun', ''),
      podUid,
      qosClass.toLowerCase(),
    );
    expect(nameCgroup(splitCgroupPath(path))).toEqual(expected);
    const { qos: _, ...captured } = expected as { qos: string };
    expect(nameCgroup(kernelComponents(capture(path)))).toMatchObject(captured);
  });
});

it('lists all containers of a nested path, innermost first', () => {
  expect(containerIds(splitCgroupPath(`/docker/${B}/kubepods/burstable/pod${UID}/${A}`))).toEqual([A, B]);
  expect(containerIds(splitCgroupPath(`/kubepods/pod${UID}/crio-conmon-${A}`))).toEqual([]);
});

it('unescapes as systemd-escape does', () => {
  expect(unescapeUnit('dev-disk-by\\x2duuid')).toBe('dev-disk-by-uuid');
  expect(unescapeUnit('a\\x5cx2db')).toBe('a\\x2db');
  expect(unescapeUnit('\\xff')).toBe('\uFFFD');
});
