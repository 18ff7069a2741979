// Talks to a running agent over HTTP: its /metrics and status. Used by `top`, `doctor`, `trace` and `map`.
import { get, type IncomingMessage } from 'node:http';
import { parseHostPort } from '../config/values.ts';
import { CliError, EXIT } from './exit.ts';

const LARGEST_ANSWER_BYTES = 256 << 20;

/** The address under which an agent that listens on `listen` is reached from this host. */
export function localUrl(listen: string): URL {
  const { host, port } = parseHostPort(listen) ?? { host: '127.0.0.1', port: 9464 };
  const reachable = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  return new URL(`http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}/`);
}

/** The base address of an agent as a person gives it: a URL with or without path, or HOST:PORT. */
export function agentUrl(text: string): URL {
  const whole = /^[a-z][a-z0-9+.-]*:\/\//i.test(text) ? text : `http://${text}`;
  const url = URL.canParse(whole) ? new URL(whole) : undefined;
  if (url === undefined || url.protocol !== 'http:' || url.hostname === '') {
    throw new CliError(
      `--from: found ${JSON.stringify(text)}; allowed: http://HOST:PORT or HOST:PORT`,
      EXIT.usage,
    );
  }
  url.pathname = url.pathname.replace(/\/(?:metrics)?$/, '/');
  url.search = '';
  url.hash = '';
  return url;
}

/** Why an agent did not answer, in words. */
function reason(error: unknown): string {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === 'ECONNREFUSED') return 'nothing listens there';
  if (code === 'ENOTFOUND' || code === 'EAI_AGAIN') return 'the host name is not known';
  return code ?? message;
}

/** No answer, or not one that an agent gives. */
export class AgentUnreachable extends CliError {}

function request(url: URL, timeoutMillis: number): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    const signal = AbortSignal.timeout(timeoutMillis);
    const options = {
      agent: false,
      signal,
      headers: { accept: 'text/plain;version=0.0.4, application/json' },
    };
    get(url, options, resolve).on('error', (error) =>
      reject(signal.aborted ? new Error(`no answer within ${timeoutMillis / 1000} s`) : error),
    );
  });
}

/** Body of a GET below the agent's address. Throws {@link AgentUnreachable} with one sentence. */
export async function fetchText(base: URL, path: string, timeoutMillis = 10_000): Promise<string> {
  const url = new URL(path, base);
  const fail = (why: string) => new AgentUnreachable(`cannot read ${url.href}: ${why}`);
  try {
    const response = await request(url, timeoutMillis);
    if (response.statusCode !== 200) {
      response.destroy();
      throw fail(`it answered ${response.statusCode}`);
    }
    const parts: Buffer[] = [];
    let size = 0;
    for await (const part of response as AsyncIterable<Buffer>) {
      size += part.length;
      if (size > LARGEST_ANSWER_BYTES) throw fail('the answer is too large');
      parts.push(part);
    }
    return Buffer.concat(parts).toString('utf8');
  } catch (error) {
    throw error instanceof AgentUnreachable ? error : fail(reason(error));
  }
}
