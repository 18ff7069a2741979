// What two processors do to one connection at once, step by step: an end, or an answer, in the middle of another call.
import { beforeAll, describe, expect, it } from 'vitest';
import { buildDriver, type Outcome, runConversations, type Step } from './driver.ts';
import { request } from './traffic.ts';

const RESYNC = 1;
const RESET = 2;
const TIMED_OUT = 3;
const IDLE = 5;

beforeAll(() => buildDriver(), 120_000);

const ask = (...requests: Buffer[]): Step => ({ direction: 'request', pieces: [Buffer.concat(requests)] });
const answer = (text: string): Step => ({ direction: 'answer', pieces: [Buffer.from(text)] });
const three = ask(request('GET', 'a'), request('SET', 'a', 'b'), request('DEL', 'a'));

function run(...steps: Step[]): Outcome {
  const [outcome] = runConversations([steps]);
  if (!outcome) throw new Error('no outcome');
  return outcome;
}
const told = ({ over }: Outcome): string[] =>
  over.map(({ command, status, error }) => `${command} ${status || error}`);

describe('a connection that ends in the middle of a call', () => {
  it.each([RESET, TIMED_OUT])('of answers: what waits ends with error %i, which it ended with', (error) => {
    const outcome = run(three, { meanwhile: error }, answer('$-1\r\n+OK\r\n'));
    expect(told(outcome)).toEqual(['GET OK', 'SET OK', `DEL ${error}`]);
    expect(outcome).toMatchObject({ waiting: 0, lost: 0 });
  });

  it('of requests: those behind the end are told of as well', () => {
    const outcome = run(
      { meanwhile: RESET },
      ask(request('CLIENT', 'REPLY', 'SKIP'), request('SET', 'a', 'b'), request('GET', 'a')),
    );
    expect(told(outcome)).toEqual(['CLIENT 0', 'SET 0', `GET ${RESET}`]);
    expect(outcome).toMatchObject({ waiting: 0, lost: 0 });
  });

  it('and of an idle end: all that waits is told of once', () => {
    const outcome = run(three, { meanwhile: RESET }, { ends: IDLE });
    expect(told(outcome)).toEqual([`GET ${IDLE}`, `SET ${IDLE}`, `DEL ${IDLE}`]);
    expect(outcome).toMatchObject({ waiting: 0, lost: 0 });
  });
});

describe('an answer in the middle of an idle end', () => {
  it('desynchronises: what was not told of is counted as lost, and the next requests find their answers', () => {
    const outcome = run(three, { meanwhile: Buffer.from('$-1\r\n') }, { ends: IDLE });
    expect(told(outcome)).toEqual([`GET ${IDLE}`]);
    expect(outcome.flags & RESYNC).toBe(RESYNC);
    expect(outcome.lost).toBe(2);
    const after = run(
      three,
      { meanwhile: Buffer.from('$-1\r\n') },
      { ends: IDLE },
      answer('+OK\r\n:0\r\n'),
      ask(request('INCR', 'n'), request('PING')),
      answer(':1\r\n+PONG\r\n'),
    );
    expect(told(after)).toEqual([`GET ${IDLE}`, 'INCR OK', 'PING OK']);
    expect(after).toMatchObject({ waiting: 0, lost: 2, joined: 1 });
  });
});

it('more idle requests than are ended one by one leave nothing behind that a later answer could meet', () => {
  const pings = Array.from({ length: 5000 }, () => request('PING'));
  const outcome = run(ask(...pings), { ends: IDLE }, ask(request('GET', 'a')), answer('$-1\r\n'));
  const rows = told(outcome);
  expect(rows.slice(0, 2048)).toEqual(Array.from({ length: 2048 }, () => `PING ${IDLE}`));
  expect(rows.slice(2048)).toEqual(['GET OK']);
  expect(outcome).toMatchObject({ waiting: 0, lost: 5000 - 2048, joined: 1 });
});
