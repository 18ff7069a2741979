// What the decoder of another project (node-redis) makes of a stream of RESP: it knows requests as lists of strings too.
import { Decoder } from '@redis/client/dist/lib/RESP/decoder.js';

export interface Decoded {
  readonly kind: 'reply' | 'error' | 'push';
  readonly value: unknown;
}

export function decode(stream: Buffer): Decoded[] {
  const decoded: Decoded[] = [];
  const decoder = new Decoder({
    onReply: (value: unknown) => decoded.push({ kind: 'reply', value }),
    onErrorReply: (value: unknown) => decoded.push({ kind: 'error', value }),
    onPush: (value: unknown) => decoded.push({ kind: 'push', value }),
    getTypeMapping: () => ({}),
  });
  decoder.write(stream);
  return decoded;
}
