// The host's connection tracking as the kernel side reads it (bpf/core/conntrack.h): the subscription, and the one request for
// what was there before. Nothing is read in userspace. Used by the TCP probe.
import { readFileSync } from 'node:fs';
import type { BpfLink, BpfProgram } from './native.ts';

// include/uapi/linux/netlink.h, include/uapi/linux/netfilter/nfnetlink*.h
const NETLINK_NETFILTER = 12;
const NFNLGRP_CONNTRACK_NEW = 1;
const CTNETLINK_GET = 0x0101;
const NLM_F_REQUEST = 0x1;
const NLM_F_DUMP = 0x300;

/** Attaches the filter to new connections of this process's network namespace. Needs CAP_NET_ADMIN. */
export function subscribe(program: BpfProgram): BpfLink {
  return program.attachNetlink({
    protocol: NETLINK_NETFILTER,
    groups: 1 << (NFNLGRP_CONNTRACK_NEW - 1),
  });
}

/** Lets all entries of connection tracking pass through the filter; a few µs each. */
export function readAll(link: BpfLink): void {
  const message = Buffer.alloc(20); // nlmsghdr, nfgenmsg of no family: all
  message.writeUInt32LE(message.length, 0);
  message.writeUInt16LE(CTNETLINK_GET, 4);
  message.writeUInt16LE(NLM_F_REQUEST | NLM_F_DUMP, 6);
  link.request(message);
}

/** Why the kernel has nothing to tell although the subscription stands; undefined where it has. */
export function silence(read = (path: string) => readFileSync(path, 'utf8')): string | undefined {
  try {
    const events = read('/proc/sys/net/netfilter/nf_conntrack_events').trim();
    return events === '0' ? 'net.netfilter.nf_conntrack_events is 0: set it to 1' : undefined;
  } catch {
    return undefined; // connection tracking is not in use, so nothing is translated by it
  }
}
