// Building blocks of the schema: the forms a value may take (address, CIDR, URL, route pattern) and how
// each setting documents itself. Used by schema.ts and by the settings.ts of the probes; imports no other module.
import { isIP } from 'node:net';
import * as z from 'zod';

/** What a setting says about itself beside its type. Copied into the JSON Schema under the `x-` names. */
export interface SettingMeta {
  /** One or two sentences: what it does, and its unit. */
  description: string;
  /** What a value may look like, where the type alone does not say it ("HOST:PORT such as …"). */
  allowed?: string;
  /** Name of a command line flag of its own, without the dashes. Every setting can be given with `--set`. */
  flag?: string;
  /** The value is never printed. */
  secret?: true;
  examples?: unknown[];
}

/** Turns {@link SettingMeta} into the keywords that end up in the JSON Schema. */
export function about(meta: SettingMeta): Record<string, unknown> {
  const { description, allowed, flag, secret, examples } = meta;
  return {
    description,
    ...(allowed === undefined ? {} : { 'x-allowed': allowed }),
    ...(flag === undefined ? {} : { 'x-flag': flag }),
    ...(secret === undefined ? {} : { 'x-secret': true }),
    ...(examples === undefined ? {} : { examples }),
  };
}

export interface HostPort {
  /** Without brackets; an IPv6 address is not abbreviated further. */
  host: string;
  port: number;
}

/** Splits `HOST:PORT` or `[IPV6]:PORT`; an empty host means all addresses. Undefined when it is neither. */
export function parseHostPort(text: string): HostPort | undefined {
  const match = /^(?:\[([^\]]*)\]|([^:[\]\s/]*)):(\d{1,5})$/.exec(text);
  if (match === null) return undefined;
  const [, bracketed, plain, digits] = match;
  const port = Number(digits);
  if (port > 65535) return undefined;
  if (bracketed !== undefined) return isIP(bracketed) === 6 ? { host: bracketed, port } : undefined;
  if (plain === undefined || plain === '') return { host: '::', port };
  if (/^[\d.]+$/.test(plain) && isIP(plain) !== 4) return undefined;
  return { host: plain, port };
}

export interface Cidr {
  /** 4 or 6. */
  family: 4 | 6;
  address: string;
  prefixLength: number;
}

/** Splits `ADDRESS/LENGTH`; an address alone means that address. Undefined when it is neither. */
export function parseCidr(text: string): Cidr | undefined {
  const match = /^([^/%]+)(?:\/(\d{1,3}))?$/.exec(text);
  const address = match?.[1];
  if (address === undefined) return undefined;
  const family = isIP(address);
  if (family !== 4 && family !== 6) return undefined;
  const longest = family === 4 ? 32 : 128;
  const prefixLength = match?.[2] === undefined ? longest : Number(match[2]);
  return prefixLength <= longest ? { family, address, prefixLength } : undefined;
}

function isHttpUrl(text: string): boolean {
  if (!URL.canParse(text)) return false;
  const url = new URL(text);
  // Credentials belong into headers, where they are kept out of logs.
  return /^https?:$/.test(url.protocol) && url.hostname !== '' && url.username === '' && url.password === '';
}

function isRoutePattern(text: string): boolean {
  if (!text.startsWith('/') || text.length > 256 || /[?#\s]/.test(text)) return false;
  const segments = text.slice(1).split('/');
  return segments.every(
    (segment, index) =>
      (segment === '*' && index === segments.length - 1) ||
      /^\{[A-Za-z_][A-Za-z0-9_.-]*\}$/.test(segment) ||
      !/[{}*]/.test(segment),
  );
}

function increasing(bounds: number[]): boolean {
  return bounds.every((bound, index) => bound > 0 && bound > (bounds[index - 1] ?? 0));
}

export const flag = (byDefault: boolean, meta: SettingMeta) =>
  z.boolean().default(byDefault).meta(about(meta));

export const integer = (byDefault: number, min: number, max: number, meta: SettingMeta) =>
  z.int().min(min).max(max).default(byDefault).meta(about(meta));

export const number = (byDefault: number, min: number, max: number, meta: SettingMeta) =>
  z.number().min(min).max(max).default(byDefault).meta(about(meta));

export const oneOf = <const T extends readonly [string, ...string[]]>(
  values: T,
  byDefault: T[number],
  meta: SettingMeta,
) => z.enum(values).default(byDefault).meta(about(meta));

export const DETAILS = ['namespace', 'workload', 'pod'] as const;

/** `enabled`, which every probe has. */
export const enabled = (byDefault: boolean) => flag(byDefault, { description: 'Run this probe.' });

/** `detail` of one probe; left out, it follows the top-level one. */
export const probeDetail = () =>
  z
    .enum(DETAILS)
    .optional()
    .meta(about({ description: "Overrides `detail` for this probe's metrics." }));

/** Which requests of a protocol become spans. `errors`: what counts as failed, in the words of the protocol. */
export const sampling = (errors: string) =>
  section('Which requests become spans. Decided in the kernel; metrics count every request.', {
    ratio: number(0.01, 0, 1, {
      description: 'Share of ordinary requests, 0 to 1. A sampled incoming `traceparent` is always honoured.',
    }),
    slow_millis: integer(1000, 0, 3_600_000, {
      description: 'Requests that took at least this many milliseconds are sampled; 0 turns this off.',
    }),
    errors: flag(true, { description: `Sample requests that failed (${errors}).` }),
    spans_per_second: integer(100, 1, 100_000, {
      description: 'Most spans per second on this node; what is over it is dropped and counted.',
    }),
  });

export const hostPort = (byDefault: string, meta: SettingMeta) =>
  z
    .string()
    .refine((text) => parseHostPort(text) !== undefined)
    .default(byDefault)
    .meta(
      about({ allowed: 'HOST:PORT, such as 0.0.0.0:9464, [::1]:9464 or :9464 (all addresses)', ...meta }),
    );

export const endpoint = (byDefault: string, meta: SettingMeta) =>
  z
    .string()
    .refine(isHttpUrl)
    .default(byDefault)
    .meta(
      about({
        allowed:
          'a URL such as http://localhost:4317 or https://otlp.example.com:4317, without user or password',
        ...meta,
      }),
    );

export const cidr = (meta: SettingMeta) =>
  z
    .string()
    .refine((text) => parseCidr(text) !== undefined)
    .meta(about({ allowed: 'ADDRESS/LENGTH, such as 10.20.0.0/16 or 2001:db8::/32', ...meta }));

export const routePattern = (meta: SettingMeta) =>
  z
    .string()
    .refine(isRoutePattern)
    .meta(
      about({
        allowed:
          'a path of at most 256 characters that starts with "/"; "{name}" stands for one segment, "*" as the last segment for all the rest; no query',
        ...meta,
      }),
    );

/** A name that becomes a label value: printable, short. */
export const label = (meta: SettingMeta) =>
  z
    .string()
    .regex(/^[^\p{C}\s](?:[^\p{C}]*[^\p{C}\s])?$/u)
    .max(63)
    .meta(about({ allowed: '1 to 63 printable characters', ...meta }));

/** A string that may be left empty, where empty means "find out". */
export const text = (meta: SettingMeta) =>
  z
    .string()
    .regex(/^[^\p{C}]*$/u)
    .max(1024)
    .default('')
    .meta(about({ allowed: 'text without control characters', ...meta }));

export const absolutePath = (byDefault: string, meta: SettingMeta) =>
  z
    .string()
    .regex(/^\/[^\0]*$/)
    .default(byDefault)
    .meta(about({ allowed: 'an absolute path', ...meta }));

/** Explicit histogram bounds: positive, strictly increasing, at most 24 (the kernel's table has that many). */
export const bounds = (byDefault: readonly number[], meta: SettingMeta) =>
  z
    .array(z.number())
    .min(1)
    .max(24)
    .refine(increasing)
    .default([...byDefault])
    .meta(about({ allowed: 'a list of 1 to 24 positive numbers, each larger than the one before', ...meta }));

/** Request headers; a value is text, or names the environment variable or file that holds it. */
export const headers = (meta: SettingMeta) =>
  z
    .record(
      z.string().regex(/^[a-z0-9_.-]+$/),
      z.union([
        z.string().regex(/^[\x20-\x7e]*$/),
        z.strictObject({ env: z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/) }),
        z.strictObject({ file: z.string().min(1) }),
      ]),
    )
    .default({})
    .meta(
      about({
        allowed:
          'a mapping from a lower-case header name to a text, to {env: VARIABLE} or to {file: PATH} that holds the value',
        secret: true,
        ...meta,
      }),
    );

/** A group of settings. Unknown keys are refused; a group left out has the defaults of its settings. */
export const section = <T extends z.ZodRawShape>(description: string, shape: T) =>
  z
    .strictObject(shape)
    .prefault({} as z.input<z.ZodObject<T, z.core.$strict>>)
    .meta({ description });
