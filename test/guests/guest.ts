// The command line of the guests: boots one of Debian's kernels under QEMU with this machine's own files (read-only,
// an overlay of memory on top) and runs a command there as root. Called by scripts/test.ts and by people.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { initramfs } from './initramfs.ts';
import { cacheFolder, type Kernel, kernelOf, SERIES } from './kernels.ts';

const HELP = `usage: node test/guests/guest.ts [options] SERIES COMMAND...

Boots Debian's newest kernel of SERIES (${Object.keys(SERIES).join(', ')}) and runs COMMAND there with bash, as root, in the
present folder. The guest sees this machine's files; what it writes is lost, but for the folders of --share.
Output comes through as it is written; the exit code is the command's.

  --share FOLDER   the guest may write here (may be repeated)
  --env NAME=VALUE set for the command (may be repeated); PATH, CI, LANG, KNP_* and KNPTEST_* are passed on as they are
  --memory MIB     default 4096
  --cpus N         default 2
  --limit SECONDS  the guest is stopped after this time; default 900
  --accel HOW      tcg (emulation, the default) or kvm (where /dev/kvm works; in nested machines it may hang)
  --update         fetch the series' newest kernel even if the cache has one
  --fetch          only make sure that the cache has the kernel, and say which
  --help           this text

Kernels are kept in ${cacheFolder()} ($KNPTEST_CACHE changes that).
In the guest KNPTEST_GUEST is SERIES and KNPTEST_SCALE the share of the work that tests should do there (see scale.ts).
Exit code 125: the guest could not be started or gave no answer.
Needs (Debian's names): qemu-system-x86 busybox-static kmod xz-utils zstd debian-archive-keyring
`;

// What steers tests is named KNPTEST_*: the agent takes KNP_* for settings and refuses those that it does not know.

/** Emulation makes JavaScript and the kernel 10 to 30 times slower: tests do this share of the work. */
const SCALE = { tcg: 0.05, kvm: 0.5 } as const;

type Options = {
  series: string;
  command: string;
  shares: string[];
  env: string[];
  memory: string;
  cpus: string;
  limitSeconds: number;
  accel: 'tcg' | 'kvm';
};

class GuestError extends Error {}

function parse(argv: string[]): Options | undefined {
  const { values, positionals } = parseArgs({
    args: argv,
    allowPositionals: true,
    options: {
      share: { type: 'string', multiple: true, default: [] },
      env: { type: 'string', multiple: true, default: [] },
      memory: { type: 'string', default: '4096' },
      cpus: { type: 'string', default: '2' },
      limit: { type: 'string', default: '900' },
      accel: { type: 'string', default: 'tcg' },
      update: { type: 'boolean', default: false },
      fetch: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  const [series, ...command] = positionals;
  if (values.help) {
    process.stdout.write(HELP);
    return undefined;
  }
  if (series === undefined) throw new GuestError('no kernel series given; see --help');
  if (values.update || values.fetch) {
    const kernel = kernelOf(series, { update: values.update });
    if (values.fetch) {
      console.log(`${series}: ${kernel.release}`);
      return undefined;
    }
  }
  if (command.length === 0) throw new GuestError('no command given; see --help');
  const limitSeconds = Number(values.limit);
  if (!(limitSeconds > 0)) throw new GuestError(`--limit takes seconds, not ${values.limit}`);
  if (!['tcg', 'kvm'].includes(values.accel))
    throw new GuestError(`--accel takes tcg or kvm, not ${values.accel}`);
  return {
    series,
    command: command.join(' '),
    shares: values.share.map((folder) => resolve(folder)),
    env: values.env,
    memory: values.memory,
    cpus: values.cpus,
    limitSeconds,
    accel: values.accel === 'kvm' ? 'kvm' : 'tcg',
  };
}

const quote = (text: string): string => `'${text.replaceAll("'", "'\\''")}'`;

/** The bash script that sets the environment and runs the command in the folder where we are. */
function script(options: Options): string {
  const passed = Object.entries(process.env).filter(([name]) =>
    /^(PATH|CI|LANG|KNP_.*|KNPTEST_.*)$/.test(name),
  );
  const settings: [string, string][] = [
    ['HOME', '/root'],
    ['TERM', 'dumb'],
    ...passed.map(([name, value]): [string, string] => [name, value ?? '']),
    ['KNPTEST_SCALE', process.env.KNPTEST_SCALE ?? String(SCALE[options.accel])],
    ['KNPTEST_GUEST', options.series],
    ...options.env.map((setting): [string, string] => {
      const [name, ...value] = setting.split('=');
      return [name as string, value.join('=')];
    }),
  ];
  const exports = settings.map(([name, value]) => `export ${name}=${quote(value)}`);
  return `${exports.join('\n')}\ncd ${quote(process.cwd())} || exit 125\nbash -c ${quote(options.command)}`;
}

function qemuArguments(options: Options, kernel: Kernel, folder: string): string[] {
  const shares = options.shares.flatMap((path, index) => [
    '-virtfs',
    `local,path=${path},mount_tag=share${index},security_model=none,id=share${index}`,
  ]);
  return [
    ...(options.accel === 'kvm'
      ? ['-accel', 'kvm', '-cpu', 'host']
      : // One thread for all processors: with one each, a processor was seen to run an instruction that another had
        // just patched ("Oops: int3" in secure_ipv4_port_ephemeral, Linux 7.3), about once in ten boots.
        ['-accel', 'tcg,thread=single,tb-size=1024', '-cpu', 'max']),
    ...['-smp', options.cpus, '-m', options.memory, '-nodefaults', '-display', 'none', '-no-reboot'],
    ...['-kernel', kernel.image, '-initrd', join(folder, 'initramfs')],
    // A kernel that has tripped over itself is no place to go on testing: the guest ends there and then.
    ...['-append', 'console=ttyS0 oops=panic panic=-1 mitigations=off'],
    ...[
      '-serial',
      `file:${join(folder, 'console')}`,
      '-device',
      'virtio-rng-pci',
      '-device',
      'virtio-serial-pci',
    ],
    ...['-chardev', 'stdio,id=output,signal=off', '-device', 'virtserialport,chardev=output,name=output'],
    ...['-chardev', `file,id=status,path=${join(folder, 'status')}`],
    ...['-device', 'virtserialport,chardev=status,name=status'],
    ...['-virtfs', 'local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap,id=host'],
    ...shares,
  ];
}

/** Boots, runs, answers the command's exit code. */
async function runGuest(options: Options): Promise<number> {
  for (const tool of ['qemu-system-x86_64', 'depmod', 'xz', '/bin/busybox']) {
    if (spawnSync('sh', ['-c', `command -v ${tool}`]).status !== 0) {
      throw new GuestError(`${tool} is missing; scripts/bootstrap test installs what the guests need`);
    }
  }
  const kernel = kernelOf(options.series);
  const folder = mkdtempSync(join(tmpdir(), 'knp-guest-'));
  try {
    writeFileSync(
      join(folder, 'initramfs'),
      initramfs({ kernel, shares: options.shares, script: script(options) }),
    );
    const child = spawn('qemu-system-x86_64', qemuArguments(options, kernel, folder), {
      stdio: ['pipe', 'inherit', 'pipe'], // an end of input would close the port for the guest
    });
    let complaints = '';
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      complaints = (complaints + text).slice(-4000);
    });
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, options.limitSeconds * 1000);
    for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => child.kill('SIGKILL'));
    await new Promise<void>((done, failed) => child.once('error', failed).once('close', () => done()));
    clearTimeout(timer);
    const status = readIfThere(join(folder, 'status')).trim();
    if (/^\d+$/.test(status)) return Number(status);
    const reason = late ? `no answer within ${options.limitSeconds} s` : 'the guest ended without an answer';
    throw new GuestError(`${reason}\n${complaints}${lastWords(readIfThere(join(folder, 'console')))}`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The end of the kernel's log; all of it from where the kernel reports a fault of its own. */
function lastWords(console: string): string {
  const lines = console.split('\n');
  const fault = lines.findIndex((line) =>
    /\] (BUG|Oops|WARNING|Kernel panic|general protection fault)\b/.test(line),
  );
  return lines.slice(fault < 0 ? -25 : fault, fault < 0 ? undefined : fault + 150).join('\n');
}

const readIfThere = (path: string): string => (existsSync(path) ? readFileSync(path, 'utf8') : '');

try {
  const options = parse(process.argv.slice(2));
  if (options !== undefined) process.exitCode = await runGuest(options);
} catch (error) {
  console.error(`guest: ${(error as Error).message}`);
  process.exitCode = 125;
}
