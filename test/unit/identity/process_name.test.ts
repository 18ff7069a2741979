// Names of processes, from well-behaved to hostile.
import { describe, expect, it } from 'vitest';
import { processName } from '../../../exporter/identity/process_name.ts';
import { kernelText, MAX_NAME_LENGTH, sanitise } from '../../../exporter/identity/text.ts';
import { OWNER_FLAGS } from '../../../exporter/identity/types.ts';

function field(bytes: ArrayLike<number> | string, size: number): Uint8Array {
  const result = new Uint8Array(size);
  result.set(typeof bytes === 'string' ? Buffer.from(bytes).subarray(0, size - 1) : Uint8Array.from(bytes));
  return result;
}

describe('processName', () => {
  it.each([
    ['nginx', 'nginx', 'nginx'],
    ['gunicorn', 'python3.11', 'gunicorn'],
    ['backup.sh', 'bash', 'backup.sh'],
    ['MainThread', 'node', 'node'],
    ['main', 'java', 'java'],
    ['tokio-runtime-w', 'linkerd2-proxy', 'linkerd2-proxy'],
    ['.NET Main', 'Api', 'Api'],
    ['prometheus-node', 'prometheus-node-exporter', 'prometheus-node-exporter'],
    ['kube-controller', 'kube-controller-manager', 'kube-controller-manager'],
    ['systemd-resolve', 'systemd-resolved', 'systemd-resolved'],
    ['(sd-pam)', 'systemd', 'systemd'],
    ['nginx', 'nginx (deleted)', 'nginx'],
    ['x', '/usr/sbin/nginx', 'x'],
    ['', '/usr/sbin/nginx', 'nginx'],
    ['sh', '', 'sh'],
    ['', '', 'unknown'],
    ['\x01\x02', '', 'unknown'],
  ])('comm %j, executable %j: %s', (comm, exe, expected) => {
    expect(processName({ comm: field(comm, 16), exe: field(exe, 32) })).toBe(expected);
    expect(processName({ comm, exe })).toBe(expected);
  });

  it('folds kernel threads and names the agent', () => {
    const flags = OWNER_FLAGS.kernelThread;
    expect(processName({ comm: 'kworker/0:1', exe: '', flags })).toBe('kernel');
    expect(processName({ comm: 'nfsd', exe: '', flags })).toBe('kernel');
    expect(processName({ comm: 'MainThread', exe: 'node', flags: OWNER_FLAGS.self })).toBe('kubenetprobe');
  });

  it.each([
    ['invalid UTF-8', [0x61, 0xff, 0xfe, 0x62]],
    ['control characters', [0x61, 0x0a, 0x1b, 0x5b, 0x33, 0x31, 0x6d]],
    ['right-to-left override', [...Buffer.from('a\u202Eb')]],
    ['no terminator', Array(16).fill(0x61)],
    ['cut in the middle of a character', [...Buffer.from('aaaaaaaaaaaaaa'), 0xc3]],
  ])('hostile comm: %s', (_, bytes) => {
    const name = processName({ comm: Uint8Array.from(bytes), exe: '' });
    expect(name).not.toBe('');
    expect(name.isWellFormed()).toBe(true);
    expect(name).not.toMatch(/[\p{C}]/u);
  });
});

describe('text', () => {
  it('reads up to the first NUL', () => {
    expect(kernelText(field('abc', 16))).toBe('abc');
    expect(kernelText('abc\0def')).toBe('abc');
    expect(kernelText(new Uint8Array(0))).toBe('');
  });

  it('bounds length and never splits a character', () => {
    expect(sanitise('x'.repeat(10_000_000))).toHaveLength(MAX_NAME_LENGTH);
    expect(sanitise('😀'.repeat(200), 3)).toBe('😀');
    expect(sanitise('\uD800')).toBe('');
    expect(sanitise('  a b  ')).toBe('a b');
    expect(sanitise('naïve-сервис')).toBe('naïve-сервис');
  });
});
