// The tests' own peers in C: compiled when first needed.
import { execFileSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../../../', import.meta.url));

type PeerName = 'tcp_peer' | 'http_peer' | 'http_peer_32' | 'differential_peer';

/** For the one of 32 bits, which has no library. */
const FREESTANDING = '-m32 -nostdlib -static -ffreestanding -fno-pic -fno-stack-protector -fno-builtin';

/** Where a compiled peer is. */
export const peerPath = (name: PeerName): string => `${ROOT}build/test/${name}`;

/** Compiles a peer if need be. */
export function buildPeer(name: PeerName): void {
  const target = peerPath(name);
  mkdirSync(`${ROOT}build/test`, { recursive: true });
  execFileSync('make', ['-s', '-f', '-', target], {
    input: `${target}: ${ROOT}test/kernel/peers/${name}.c $(wildcard ${ROOT}test/kernel/peers/${name}_*.h)\n\t$(CC) -O2 -Wall -Werror ${name === 'http_peer_32' ? FREESTANDING : '-pthread'} -o $@.tmp $< && mv $@.tmp $@\n`,
  });
}
