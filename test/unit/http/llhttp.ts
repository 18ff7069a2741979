// Node's own HTTP parser (llhttp) as the reference for the parser in bpf/: what it says of the same bytes.
import { createRequire } from 'node:module';

const require = createRequire(import.meta.url);
const { HTTPParser, methods } = require('node:_http_common') as {
  // biome-ignore lint/suspicious/noExplicitAny: an undocumented class of Node's
  HTTPParser: any;
  methods: readonly string[];
};

export interface ReferenceMessage {
  readonly method: string;
  readonly url: string;
  readonly minor: number;
  readonly status: number;
  body: number;
  complete: boolean;
}

/**
 * All messages of one direction. `headOnly` says by message index whether an answer has no body (HEAD);
 * interim answers are left out. Bytes behind an upgrade are not looked at.
 */
export function referenceMessages(
  kind: 'request' | 'response',
  bytes: Buffer,
  headOnly: (index: number) => boolean = () => false,
): ReferenceMessage[] {
  const parser = new HTTPParser();
  parser.initialize(kind === 'request' ? HTTPParser.REQUEST : HTTPParser.RESPONSE, {});
  const messages: ReferenceMessage[] = [];
  let current: ReferenceMessage | undefined;
  parser[HTTPParser.kOnHeadersComplete] = (
    _major: number,
    minor: number,
    _headers: string[],
    method: number,
    url: string,
    status: number,
    _message: string,
    _upgrade: boolean,
  ) => {
    current = { method: methods[method] ?? '', url, minor, status: status ?? 0, body: 0, complete: false };
    const interim = kind === 'response' && status < 200 && status !== 101;
    if (interim) {
      current = undefined;
      return 1;
    }
    messages.push(current);
    return kind === 'response' && headOnly(messages.length - 1) ? 1 : 0;
  };
  parser[HTTPParser.kOnBody] = (chunk: Buffer) => {
    if (current) current.body += chunk.length;
  };
  parser[HTTPParser.kOnMessageComplete] = () => {
    if (current) current.complete = true;
  };
  const result = parser.execute(bytes);
  if (result instanceof Error) throw result;
  parser.finish();
  return messages;
}

/** Number of a method in `enum http1_method`; 10 for those of other standards. */
export function methodNumber(method: string): number {
  const known = ['GET', 'HEAD', 'POST', 'PUT', 'DELETE', 'CONNECT', 'OPTIONS', 'TRACE', 'PATCH'];
  const index = known.indexOf(method);
  return index < 0 ? 10 : index + 1;
}
