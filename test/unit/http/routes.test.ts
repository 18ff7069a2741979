// Routes: what becomes of paths, for names and for hostile ones, and that no stream of paths can grow them.
import { describe, expect, it } from 'vitest';
import {
  isIdentifier,
  needsExactPaths,
  normalisePath,
  OVERFLOW_ROUTE,
  RouteBook,
} from '../../../exporter/probes/http/routes.ts';
import { random } from './traffic.ts';

const shop = { name: 'shop', key: 'default/shop' };
const book = (patterns: { pattern: string; service?: string }[] = [], maxRoutes = 100) =>
  new RouteBook({ patterns, maxRoutes });

describe('names stay', () => {
  it.each([
    '/',
    '/users',
    '/api/v1/users',
    '/v2',
    '/api/v1.2',
    '/v1beta1/pods',
    '/index.html',
    '/static/app.js',
    '/healthz',
    '/.well-known/openid-configuration',
    '/oauth2/token',
    '/s3',
    '/wp-login.php',
    '/a/b/c',
    '/users/',
    '/order-items',
    '/internationalisation',
    '/grpc.health.v1.Health/Check',
    '*',
  ])('%s', (path) => expect(normalisePath(path)).toBe(path));
});

describe('identifiers go', () => {
  it.each([
    ['/users/42', '/users/{id}'],
    ['/users/42/orders/7', '/users/{id}/orders/{id}'],
    ['/users/550e8400-e29b-41d4-a716-446655440000', '/users/{id}'],
    ['/users/550E8400E29B41D4A716446655440000/x', '/users/{id}/x'],
    ['/commit/d670460b4b4aece5915caf5c68d12f560a9fe3e4', '/commit/{id}'],
    ['/commit/d670460b', '/commit/{id}'],
    ['/mail/jo.doe@example.org', '/mail/{id}'],
    ['/report/2024-05-17', '/report/{id}'],
    ['/orders/order-18823', '/orders/{id}'],
    ['/img/17.png', '/img/{id}'],
    ['/t/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9', '/t/{id}'],
    ['/t/dGhpcyBpcyBhIHNlY3JldA==', '/t/{id}'],
    ['/k/AKIAIOSFODNN7EXAMPLE', '/k/{id}'],
    ['/n/xkcdqwrtzpsdfghjkl', '/n/{id}'],
    ['/q/%41%42', '/q/{id}'],
    ['/q/a b', '/q/{id}'],
    ['/q/\xff\xfe', '/q/{id}'],
    [`/long/${'a'.repeat(41)}`, '/long/{id}'],
    ['/a/-5', '/a/{id}'],
    ['/geo/52.5200,13.4050', '/geo/{id}'],
    ['//double', '/double'],
  ])('%s', (path, route) => expect(normalisePath(path)).toBe(route));
});

it('a path that goes on keeps what is whole of it', () => {
  expect(normalisePath('/files/a/b', true)).toBe('/files/a/*');
  expect(normalisePath('/files', true)).toBe(OVERFLOW_ROUTE);
  expect(normalisePath(`/${'a/'.repeat(40)}`)).toBe(`/${'a/'.repeat(11)}a/*`);
});

it('the query is no part of it, should one ever come', () => {
  expect(book().route(shop, '/x?token=secret')).toBe('/x');
  expect(book().route(shop, '/x#secret')).toBe('/x');
});

describe("the user's patterns", () => {
  const own = book([
    { pattern: '/users/{name}/profile' },
    { pattern: '/only/here', service: 'other' },
    { pattern: '/static/*' },
    { pattern: '/2024/report' },
  ]);
  it('win over what is learnt, the first that matches first', () => {
    expect(own.route(shop, '/users/jo/profile')).toBe('/users/{name}/profile');
    expect(own.route(shop, '/users/42/profile')).toBe('/users/{name}/profile');
    expect(own.route(shop, '/users//profile')).not.toBe('/users/{name}/profile');
    expect(own.route(shop, '/static/js/app.js')).toBe('/static/*');
    expect(own.route(shop, '/static')).toBe('/static/*');
    expect(own.route(shop, '/2024/report')).toBe('/2024/report');
  });
  it('may be for one service', () => {
    expect(own.route({ name: 'other', key: 'x/other' }, '/only/here')).toBe('/only/here');
    expect(own.size).toBe(1); // '/users//profile'
  });
  it('say whether the kernel may fold identifiers', () => {
    expect(needsExactPaths([{ pattern: '/users/{id}' }, { pattern: '/v1/*' }])).toBe(false);
    expect(needsExactPaths([{ pattern: '/2024/report' }])).toBe(true);
    expect(needsExactPaths([{ pattern: '/x/deadbeef00000000' }])).toBe(true);
  });
});

describe('hostile paths', () => {
  const ALPHABETS = [
    'abcdefghijklmnopqrstuvwxyz',
    'abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789',
    '0123456789abcdef-',
    '%0123456789ABCDEF',
    Array.from({ length: 256 }, (_, i) => String.fromCharCode(i)).join(''),
    '../;=@:{}*"\\\'<>',
  ];

  it('never make more routes of a workload than allowed, and sums of what is beyond stay in one', () => {
    const own = book([], 50);
    const pick = random(1);
    for (let i = 0; i < 50_000; i++) {
      const alphabet = ALPHABETS[pick(ALPHABETS.length)] as string;
      const path = `/${Array.from({ length: pick(60) }, () => alphabet[pick(alphabet.length)]).join('')}`;
      own.route(shop, path, pick(20) === 0);
    }
    expect(own.size).toBeLessThanOrEqual(50);
    expect(own.route(shop, '/one/that/is/new')).toBe(OVERFLOW_ROUTE);
    expect(own.route({ name: 'b', key: 'default/b' }, '/one/that/is/new')).toBe('/one/that/is/new');
  });

  it('never make more workloads than allowed', () => {
    const own = new RouteBook({ patterns: [], maxRoutes: 10, maxServices: 5 });
    for (let i = 0; i < 100; i++) own.route({ name: `s${i}`, key: `n/s${i}` }, '/x');
    expect(own.size).toBe(5);
  });

  it('give routes of printable ASCII, of bounded length, that are routes of themselves', () => {
    const pick = random(2);
    for (let i = 0; i < 20_000; i++) {
      const alphabet = ALPHABETS[pick(ALPHABETS.length)] as string;
      const path = `/${Array.from({ length: pick(192) }, () => alphabet[pick(alphabet.length)]).join('')}`;
      const route = normalisePath(path);
      expect(route).toMatch(/^\/[\x21-\x7e]*$/);
      expect(route.length).toBeLessThanOrEqual(12 * 41 + 3);
      expect(route.startsWith('/')).toBe(true);
    }
  });

  it('what the kernel folds is an identifier here too, so folding loses nothing', () => {
    const pick = random(3);
    const digits = '0123456789';
    const hex = '0123456789abcdefABCDEF-';
    for (let i = 0; i < 20_000; i++) {
      const number = Array.from({ length: 1 + pick(25) }, () => digits[pick(10)]).join('');
      expect(isIdentifier(number), number).toBe(true);
      const text = Array.from({ length: 16 + pick(60) }, () => hex[pick(hex.length)]).join('');
      if (/[0-9]/.test(text)) expect(isIdentifier(text), text).toBe(true);
    }
  });
});
