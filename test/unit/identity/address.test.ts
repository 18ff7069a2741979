// Addresses and prefixes against RFC 5952's own examples and a brute-force matcher.
import { describe, expect, it } from 'vitest';
import {
  canonicalAddress,
  formatAddress,
  isLoopback,
  PrefixTable,
  parseAddress,
  parseCidr,
} from '../../../exporter/identity/address.ts';

describe('canonical text', () => {
  it.each([
    ['10.1.2.3', '10.1.2.3'],
    ['::ffff:10.1.2.3', '10.1.2.3'],
    ['::FFFF:0a01:0203', '10.1.2.3'],
    // RFC 5952 sections 1, 4 and 5
    ['2001:0db8::0001', '2001:db8::1'],
    ['2001:db8:0:0:0:0:2:1', '2001:db8::2:1'],
    ['2001:db8:0:1:1:1:1:1', '2001:db8:0:1:1:1:1:1'],
    ['2001:0:0:1:0:0:0:1', '2001:0:0:1::1'],
    ['2001:db8:0:0:1:0:0:1', '2001:db8::1:0:0:1'],
    ['2001:DB8::A', '2001:db8::a'],
    ['::', '::'],
    ['::1', '::1'],
    ['1::', '1::'],
    ['fe80::1%eth0', 'fe80::1'],
    ['[::1]', '::1'],
    ['64:ff9b::192.0.2.33', '64:ff9b::c000:221'],
  ])('%s → %s', (text, expected) => {
    expect(canonicalAddress(text)).toBe(expected);
    const bytes = parseAddress(text) as Uint8Array;
    expect(bytes).toHaveLength(16);
    expect(formatAddress(bytes)).toBe(expected);
  });

  it.each(['', 'localhost', '10.1.2', '10.1.2.256', '1:2:3', ':::', '1::2::3', '10.1.2.3:80', '010.1.1.1'])(
    'refuses %j',
    (text) => {
      expect(canonicalAddress(text)).toBeUndefined();
    },
  );

  it('takes 4 bytes, refuses other lengths', () => {
    expect(canonicalAddress(Uint8Array.of(10, 0, 0, 1))).toBe('10.0.0.1');
    expect(canonicalAddress(new Uint8Array(5))).toBeUndefined();
  });

  it('formats as the standard library parses: random round trips', () => {
    for (let round = 0; round < 2000; round++) {
      const bytes = Uint8Array.from({ length: 16 }, () =>
        Math.random() < 0.6 ? 0 : Math.floor(Math.random() * 256),
      );
      const text = formatAddress(bytes);
      // WHATWG URL serialises IPv6 by the same rules, but has no special form for v4-mapped.
      const url = new URL(`http://[${text.includes(':') ? text : `::ffff:${text}`}]/`).hostname.slice(1, -1);
      if (text.includes(':')) expect(text).toBe(url);
      expect(parseAddress(text)).toEqual(bytes);
    }
  });

  it('knows loopback', () => {
    expect(['127.0.0.1', '127.255.1.2', '::1'].map(isLoopback)).toEqual([true, true, true]);
    expect(['128.0.0.1', '::2', '1.127.0.0'].map(isLoopback)).toEqual([false, false, false]);
  });
});

describe('prefixes', () => {
  it.each([
    ['10.1.2.3/8', '10.0.0.0/8', 104],
    ['0.0.0.0/0', '0.0.0.0/0', 96],
    ['10.1.2.3', '10.1.2.3/32', 128],
    ['2001:db8::1/32', '2001:db8::/32', 32],
    ['::/0', '::/0', 0],
    ['::ffff:10.0.0.0/104', '10.0.0.0/8', 104],
    ['10.1.2.255/25', '10.1.2.128/25', 121],
  ])('%s → %s', (text, canonical, prefix) => {
    const cidr = parseCidr(text);
    expect(cidr?.text).toBe(canonical);
    expect(cidr?.prefix).toBe(prefix);
  });

  it.each(['10.0.0.0/33', '::/129', '10.0.0.0/', '10.0.0.0/-1', '/8', 'x/8', '10.0.0.0/8/9', '10.0.0.0/1e1'])(
    'refuses %j',
    (text) => {
      expect(parseCidr(text)).toBeUndefined();
    },
  );

  it('matches the longest prefix, as a brute-force search does', () => {
    const bits = (bytes: Uint8Array) => [...bytes].map((byte) => byte.toString(2).padStart(8, '0')).join('');
    const table = new PrefixTable<string>();
    const all: { text: string; bits: string }[] = [];
    for (let round = 0; round < 300; round++) {
      const byte = () => Math.floor(Math.random() * 4);
      const text =
        round % 2
          ? `10.${byte()}.${byte()}.${byte()}/${Math.floor(Math.random() * 33)}`
          : `2001:${byte()}::${byte()}/${Math.floor(Math.random() * 129)}`;
      const cidr = parseCidr(text);
      if (cidr === undefined) throw new Error(text);
      table.set(cidr, cidr.text);
      all.push({ text: cidr.text, bits: bits(cidr.bytes).slice(0, cidr.prefix) });
    }
    for (let round = 0; round < 2000; round++) {
      const byte = () => Math.floor(Math.random() * 4);
      const address = parseAddress(
        round % 2 ? `10.${byte()}.${byte()}.${byte()}` : `2001:${byte()}::${byte()}`,
      ) as Uint8Array;
      const best = all
        .filter((entry) => bits(address).startsWith(entry.bits))
        .sort((a, b) => b.bits.length - a.bits.length)[0];
      expect(table.lookup(address)).toBe(best?.text);
    }
  });
});
