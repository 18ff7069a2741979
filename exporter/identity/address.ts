// IP addresses and prefixes: text to bytes and back, canonical text (RFC 5952), and longest-prefix matching as the
// kernel's LPM trie does it. Called by host.ts and kubernetes/. Everything is 16 bytes; IPv4 is v4-mapped.
import { isIPv4, isIPv6 } from 'node:net';

const MAPPED_PREFIX = 96;

function v4Bytes(text: string, into: Uint8Array, offset: number): void {
  const parts = text.split('.');
  for (let index = 0; index < 4; index++) into[offset + index] = Number(parts[index]);
}

function v6Bytes(text: string): Uint8Array {
  const bytes = new Uint8Array(16);
  let body = text;
  const dot = body.lastIndexOf('.');
  if (dot >= 0) {
    // ::ffff:1.2.3.4 → two groups.
    const colon = body.lastIndexOf(':');
    const tail = new Uint8Array(4);
    v4Bytes(body.slice(colon + 1), tail, 0);
    const group = (index: number): string =>
      (((tail[index] ?? 0) << 8) | (tail[index + 1] ?? 0)).toString(16);
    body = `${body.slice(0, colon + 1)}${group(0)}:${group(2)}`;
  }
  const [head = '', rest] = body.split('::');
  const left = head === '' ? [] : head.split(':');
  const right = rest === undefined || rest === '' ? [] : rest.split(':');
  const groups = [...left, ...Array<string>(8 - left.length - right.length).fill('0'), ...right];
  for (let index = 0; index < 8; index++) {
    const value = Number.parseInt(groups[index] as string, 16);
    bytes[index * 2] = value >> 8;
    bytes[index * 2 + 1] = value & 0xff;
  }
  return bytes;
}

/** 16 bytes of an address, or undefined where it is none. A zone (`fe80::1%eth0`) and brackets are dropped. */
export function parseAddress(text: string): Uint8Array | undefined {
  let body = text.trim();
  if (body.startsWith('[') && body.endsWith(']')) body = body.slice(1, -1);
  const zone = body.indexOf('%');
  if (zone > 0) body = body.slice(0, zone);
  if (isIPv4(body)) {
    const bytes = new Uint8Array(16);
    bytes[10] = 0xff;
    bytes[11] = 0xff;
    v4Bytes(body, bytes, 12);
    return bytes;
  }
  return isIPv6(body) ? v6Bytes(body) : undefined;
}

/** True for an IPv4 address in v4-mapped form. */
export function isMapped(bytes: Uint8Array): boolean {
  for (let index = 0; index < 10; index++) if (bytes[index] !== 0) return false;
  return bytes[10] === 0xff && bytes[11] === 0xff;
}

/** Canonical text (RFC 5952; v4-mapped as dotted quad). `bytes` has 16 bytes, or 4 for IPv4. */
export function formatAddress(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join('.');
  if (bytes.length !== 16) throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  if (isMapped(bytes)) return `${bytes[12]}.${bytes[13]}.${bytes[14]}.${bytes[15]}`;
  const groups: number[] = [];
  for (let index = 0; index < 16; index += 2) {
    groups.push(((bytes[index] as number) << 8) | (bytes[index + 1] as number));
  }
  // The longest run of at least two zero groups becomes `::`; the first of equals.
  let start = -1;
  let longest = 1;
  for (let index = 0; index < 8; index++) {
    let end = index;
    while (end < 8 && groups[end] === 0) end++;
    if (end - index > longest) {
      start = index;
      longest = end - index;
    }
    if (end > index) index = end;
  }
  const hex = (part: number[]): string => part.map((group) => group.toString(16)).join(':');
  if (start < 0) return hex(groups);
  return `${hex(groups.slice(0, start))}::${hex(groups.slice(start + longest))}`;
}

/** Canonical text of any form of address; undefined where it is none. */
export function canonicalAddress(address: Uint8Array | string): string | undefined {
  if (typeof address !== 'string') {
    return address.length === 16 || address.length === 4 ? formatAddress(address) : undefined;
  }
  if (isIPv4(address)) return address; // Only canonical dotted quads pass.
  const bytes = parseAddress(address);
  return bytes === undefined ? undefined : formatAddress(bytes);
}

/** True for 127.0.0.0/8 and ::1, given canonical text. */
export function isLoopback(canonical: string): boolean {
  return canonical === '::1' || (canonical.startsWith('127.') && !canonical.includes(':'));
}

export interface Cidr {
  /** Canonical text with host bits zero. */
  readonly text: string;
  readonly bytes: Uint8Array;
  /** Prefix length over the 16-byte form: 96 more than written for IPv4. */
  readonly prefix: number;
}

function mask(bytes: Uint8Array, prefix: number): Uint8Array {
  const masked = new Uint8Array(16);
  for (let index = 0; index < 16; index++) {
    const bits = Math.min(8, Math.max(0, prefix - index * 8));
    masked[index] = (bytes[index] as number) & (0xff << (8 - bits)) & 0xff;
  }
  return masked;
}

/** Parses `10.0.0.0/8`, `2001:db8::/32` or a bare address (one host). Host bits are cleared. Undefined when malformed. */
export function parseCidr(text: string): Cidr | undefined {
  const slash = text.indexOf('/');
  const address = parseAddress(slash < 0 ? text : text.slice(0, slash));
  if (address === undefined) return undefined;
  // `::ffff:10.0.0.0/104` is written over 128 bits although it is an IPv4 prefix.
  const written = slash < 0 ? text : text.slice(0, slash);
  const offset = isMapped(address) && !written.includes(':') ? MAPPED_PREFIX : 0;
  let prefix = 128;
  if (slash >= 0) {
    const digits = text.slice(slash + 1);
    if (!/^\d{1,3}$/.test(digits)) return undefined;
    prefix = Number(digits) + offset;
    if (prefix > 128) return undefined;
  }
  const bytes = mask(address, prefix);
  const shown = prefix >= MAPPED_PREFIX && isMapped(bytes) ? prefix - MAPPED_PREFIX : prefix;
  return { text: `${formatAddress(bytes)}/${shown}`, bytes, prefix };
}

/** Longest-prefix match over 16-byte addresses; a later `set` of the same prefix wins. */
export class PrefixTable<Value> {
  /** By prefix length: masked bytes as latin1 text → value. */
  readonly #lengths = new Map<number, Map<string, Value>>();
  #order: number[] = [];

  set(cidr: Cidr, value: Value): void {
    let table = this.#lengths.get(cidr.prefix);
    if (table === undefined) {
      table = new Map();
      this.#lengths.set(cidr.prefix, table);
      this.#order = [...this.#lengths.keys()].sort((a, b) => b - a);
    }
    table.set(key(cidr.bytes), value);
  }

  /** @param address 16 bytes */
  lookup(address: Uint8Array): Value | undefined {
    for (const prefix of this.#order) {
      const value = this.#lengths.get(prefix)?.get(key(mask(address, prefix)));
      if (value !== undefined) return value;
    }
    return undefined;
  }
}

function key(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
}
