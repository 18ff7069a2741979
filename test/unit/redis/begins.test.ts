// Which connections are looked at as Redis: by their first bytes, however few, and never another protocol's that an answer
// then gives the lie. What only looks alike for a line or two is given up without a request counted.
import { beforeAll, describe, expect, it } from 'vitest';
import { begins, buildDriver, runConversations, type Step } from './driver.ts';
import { random, request } from './traffic.ts';

beforeAll(() => buildDriver(), 120_000);

const latin = (text: string): Buffer => Buffer.from(text, 'latin1');

const REDIS = [
  request('PING'),
  request('HELLO', '3'),
  request('AUTH', 'user', 'secret'),
  request('MSET', ...Array.from({ length: 20_000 }, () => 'x')),
  latin('PING\r\n'),
  latin('ping\n'),
  latin('SET key value\r\n'),
  latin('HELLO 3 AUTH default x\r\n'),
];

const ANSWERS = [
  '+OK\r\n',
  '+PONG\r\n',
  '-NOAUTH Authentication required.\r\n',
  ':12\r\n',
  '$5\r\nvalue\r\n',
  '$-1\r\n',
  '*2\r\n$1\r\na\r\n$1\r\nb\r\n',
  '%7\r\n$6\r\nserver\r\n',
];

/** First bytes of a client, and of a server, of protocols that are not Redis. */
const OTHERS = {
  'HTTP/1': ['GET / HTTP/1.1\r\nHost: a\r\n\r\n', 'HTTP/1.1 200 OK\r\n\r\n'],
  'HTTP/2': ['PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n', '\0\0\x06\x04\0\0\0\0\0\0\x05\0\0@\0'],
  TLS: ['\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03', '\x16\x03\x03\0\x7a\x02\0\0\x76\x03\x03'],
  SSH: ['SSH-2.0-OpenSSH_9.2\r\n', 'SSH-2.0-OpenSSH_9.2\r\n'],
  SMTP: ['EHLO example.org\r\n', '220 mail ESMTP\r\n250-mail\r\n250 OK\r\n'],
  POP3: ['USER a\r\n', '+OK POP3 server ready\r\n+OK\r\n'],
  IMAP: ['a1 LOGIN a b\r\n', '* OK IMAP4rev1\r\na1 OK\r\n'],
  FTP: ['USER anonymous\r\n', '220 ready\r\n331 Password?\r\n'],
  'memcached, text': ['get key\r\n', 'VALUE key 0 1\r\nx\r\nEND\r\n'],
  'memcached, text, no such key': ['get key\r\n', 'END\r\n'],
  'memcached, storing': ['set key 0 0 1\r\nx\r\n', 'STORED\r\n'],
  'memcached, version': ['version\r\n', 'VERSION 1.6.18\r\n'],
  'memcached, binary': ['\x80\0\0\x03\0\0\0\0\0\0\0\x03', '\x81\0\0\0\0\0\0\0\0\0\0\0'],
  PostgreSQL: ['\0\0\0\x08\x04\xd2\x16\x2f', 'N'],
  'PostgreSQL, starting': ['\0\0\0\x29\0\x03\0\0user\0a\0', 'R\0\0\0\x08\0\0\0\0'],
  MySQL: ['\x20\0\0\x01\x85\xa6\xff\x01', 'J\0\0\0\x0a8.0.36\0'],
  NATS: ['CONNECT {"verbose":false}\r\nPING\r\n', 'INFO {"server_id":"x"}\r\nPONG\r\n'],
  MQTT: ['\x10\x0c\0\x04MQTT\x04\x02\0\x3c\0\0', '\x20\x02\0\0'],
  AMQP: ['AMQP\0\0\x09\x01', '\x01\0\0\0\0\x01\xf4\0\x0a\0\x0a'],
  Kafka: ['\0\0\0\x14\0\x12\0\x03\0\0\0\0', '\0\0\x01\0\0\0\0\0'],
  MongoDB: ['\x3a\0\0\0\x01\0\0\0\0\0\0\0\xdd\x07\0\0', '\x26\0\0\0\x02\0\0\0\x01\0\0\0'],
  'ZooKeeper, four letters': ['ruok', 'imok'],
  telnet: ['\xff\xfb\x18\xff\xfb\x1f', '\xff\xfd\x18login: '],
} as const;

describe('Redis', () => {
  it.each(REDIS.map((bytes) => [bytes.subarray(0, 24).toString('latin1'), bytes] as const))(
    'begins with %j, however little of it is there',
    (_, bytes) => {
      const samples = Array.from({ length: Math.min(64, bytes.length) }, (__, i) => ({
        bytes: bytes.subarray(0, i + 1),
      }));
      expect(begins(samples)).toEqual(samples.map(() => true));
    },
  );

  it.each(ANSWERS)('answers %j', (text) => {
    const samples = Array.from({ length: text.length }, (_, i) => ({
      bytes: latin(text.slice(0, i + 1)),
      answer: true,
    }));
    expect(begins(samples)).toEqual(samples.map(() => true));
  });
});

describe('something else', () => {
  const SPEAKS_FIRST = ['SMTP', 'POP3', 'IMAP', 'FTP', 'NATS', 'SSH', 'MySQL'] as const;
  it.each(SPEAKS_FIRST)('a server that speaks first: %s', (name) => {
    expect(begins([{ bytes: latin(OTHERS[name][1]), answer: true }])).toEqual([false]);
  });

  it('is not even looked at, but for what is a line of words', () => {
    const looked = Object.entries(OTHERS).filter(([, [asked]]) => begins([{ bytes: latin(asked) }])[0]);
    expect(
      looked
        .map(([name]) => name)
        .filter((name) => !/^memcached/.test(name))
        .sort(),
    ).toEqual(['FTP', 'HTTP/1', 'HTTP/2', 'NATS', 'POP3', 'SMTP', 'ZooKeeper, four letters']);
  });

  it.each(Object.entries(OTHERS))('no request of %s is counted', (_, [asked, answered]) => {
    const client: Step = { direction: 'request', pieces: [latin(asked)] };
    const server: Step = { direction: 'answer', pieces: [latin(answered)] };
    for (const steps of [
      [client, server, client, server],
      [server, client, server, client],
      [client, server, 'close'] as Step[],
    ]) {
      const [outcome] = runConversations([steps]);
      expect(outcome).toMatchObject({ over: [], lost: 0 });
    }
  });

  it('chance does not look like it for long', () => {
    const pick = random(7);
    const samples = Array.from({ length: 5000 }, () => ({
      bytes: Buffer.from(Array.from({ length: 64 }, () => pick(256))),
      answer: pick(2) === 0,
    }));
    expect(begins(samples).filter(Boolean).length).toBeLessThan(samples.length / 100);
    const outcomes = runConversations(
      samples.map(({ bytes }) => [
        { direction: 'request', pieces: [bytes] },
        { direction: 'answer', pieces: [bytes] },
        'close',
      ]),
    );
    expect(outcomes.flatMap((o) => o.over)).toEqual([]);
  });
});
