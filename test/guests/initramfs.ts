// Builds the guest's initial file system: busybox, the few modules it takes to reach the host's files, and init.
// Everything else comes from the host's root, modules included. Called by guest.ts.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import type { Kernel } from './kernels.ts';

/** What must be loaded before the host's root is there; the rest is loaded on demand from the kernel's own modules. */
const BOOT_MODULES = ['virtio_pci', 'virtio_console', '9pnet_virtio', '9p', 'overlay', 'virtio_rng'];

export type Guest = {
  kernel: Kernel;
  /** Host folders that the guest may write, at the same path. */
  shares: readonly string[];
  /** bash script that runs as root, with the host's root as its root. */
  script: string;
};

/** A gzipped cpio archive (newc), ready for qemu's -initrd. */
export function initramfs(guest: Guest): Buffer {
  const archive = new Cpio();
  for (const name of ['bin', 'proc', 'sys', 'dev', 'modules', 'host', 'memory', 'new']) archive.folder(name);
  archive.file('bin/busybox', readFileSync('/bin/busybox'), 0o755);
  bootModules(guest.kernel).forEach((path, index) => {
    archive.file(`modules/${String(index).padStart(3, '0')}.ko`, readModule(path));
  });
  archive.file('init', Buffer.from(initScript(guest)), 0o755);
  archive.file('guest', Buffer.from(guestScript(guest)), 0o755);
  return gzipSync(archive.end(), { level: 1 });
}

/** Paths of BOOT_MODULES and all they need, in the order in which they can be loaded. */
function bootModules(kernel: Kernel): string[] {
  const folder = join(kernel.modules, kernel.release);
  const needs = new Map<string, { path: string; before: string[] }>();
  for (const line of readFileSync(join(folder, 'modules.dep'), 'utf8').split('\n')) {
    const [path, rest] = line.split(':');
    if (path === undefined || rest === undefined) continue;
    needs.set(moduleName(path), {
      path: join(folder, path),
      before: rest.trim().split(' ').filter(Boolean).map(moduleName),
    });
  }
  const ordered: string[] = [];
  const visit = (name: string): void => {
    const module = needs.get(name);
    if (module === undefined || ordered.includes(module.path)) return; // built in, or there already
    module.before.forEach(visit);
    ordered.push(module.path);
  };
  BOOT_MODULES.forEach(visit);
  return ordered;
}

const moduleName = (path: string): string =>
  (path.split('/').at(-1) as string).replace(/\.ko(\..*)?$/, '').replaceAll('-', '_');

function readModule(path: string): Buffer {
  if (path.endsWith('.xz')) return execFileSync('xz', ['-dc', path], { maxBuffer: 1 << 26 });
  if (path.endsWith('.zst')) return execFileSync('zstd', ['-qdc', path], { maxBuffer: 1 << 26 });
  return readFileSync(path);
}

/** Process 1 until the host's root is there. It replaces itself, so that the kernel finds modprobe in the new root. */
function initScript(guest: Guest): string {
  const nine = 'trans=virtio,version=9p2000.L,msize=524288';
  const shares = guest.shares.map(
    (path, index) => `mkdir -p "/new${path}"; mount -t 9p -o ${nine} share${index} "/new${path}"`,
  );
  return `#!/bin/busybox sh
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc; mount -t sysfs sysfs /sys; mount -t devtmpfs dev /dev
for m in /modules/*.ko; do insmod $m; done
mount -t 9p -o ${nine},ro,cache=loose host /host || { echo "no host file system"; poweroff -f; }
mount -t tmpfs -o size=70% memory /memory; mkdir -p /memory/upper /memory/work
mount -t overlay -o lowerdir=/host,upperdir=/memory/upper,workdir=/memory/work overlay /new || poweroff -f
for d in proc sys dev run lib/modules; do mkdir -p /new/$d; done
mount -t proc proc /new/proc; mount -t sysfs sysfs /new/sys; mount -t devtmpfs dev /new/dev
mkdir -p /new/dev/shm /new/dev/pts; mount -t tmpfs shm /new/dev/shm; mount -t devpts pts /new/dev/pts
mount -t tmpfs run /new/run; mkdir -p /new/run/lock
mount -t cgroup2 cgroup /new/sys/fs/cgroup; mount -t bpf bpf /new/sys/fs/bpf
mount -t tracefs tracefs /new/sys/kernel/tracing; mount -t debugfs debugfs /new/sys/kernel/debug
mount -o bind "/new${guest.kernel.modules}" /new/lib/modules
${shares.join('\n')}
ip link set lo up
cp /guest /new/run/guest
umount /sys /proc
exec switch_root /new /bin/bash /run/guest
`;
}

/** Process 1 from then on: runs the script with the port named \`output\`, answers its exit code on \`status\`. */
function guestScript(guest: Guest): string {
  return `port() { local p; for p in /sys/class/virtio-ports/*; do [[ $(<$p/name) == "$1" ]] && echo "/dev/\${p##*/}"; done; }
output=$(port output) status=$(port status)
(
${guest.script}
) </dev/null >"$output" 2>&1
code=$?
echo "$code" >"$status"
sync
echo o >/proc/sysrq-trigger
sleep 60
`;
}

/** The archive format that kernels unpack: cpio "newc". */
class Cpio {
  private readonly parts: Buffer[] = [];
  private inode = 0;

  folder(name: string): void {
    this.entry(name, 0o040755, Buffer.alloc(0));
  }

  file(name: string, content: Buffer, mode = 0o644): void {
    this.entry(name, 0o100000 | mode, content);
  }

  end(): Buffer {
    this.entry('TRAILER!!!', 0, Buffer.alloc(0));
    return Buffer.concat(this.parts);
  }

  private entry(name: string, mode: number, content: Buffer): void {
    this.inode++;
    // ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
    const fields = [this.inode, mode, 0, 0, 1, 0, content.length, 0, 0, 0, 0, name.length + 1, 0];
    const header = `070701${fields.map((field) => field.toString(16).padStart(8, '0')).join('')}${name}\0`;
    this.parts.push(padded(Buffer.from(header, 'latin1')), padded(content));
  }
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc((4 - (bytes.length % 4)) % 4)]);
}
