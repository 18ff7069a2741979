// The Redis connection logic of bpf/protocol/redis/ in user mode: what the kernel side gets from helpers comes from memory
// here, and requests that are over go to a callback. Used by the fuzzer and by the differential test's driver.
#pragma once
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "protocol/redis/redis_begins.h"
#include "protocol/redis/redis_conn.h"

struct user_piece {
  u64 base, length;
};
// One call of one thread: pieces as iovecs.
static int user_call(struct redis_conn *conn, struct redis_call *call, unsigned direction, struct user_piece *pieces,
                     unsigned count, u64 begin, u64 end) {
  u64 total = 0;
  for (unsigned i = 0; i < count; i++)
    total += pieces[i].length;
  memset(&call->io, 0, sizeof(call->io));
  call->io.iov = (u64)(uintptr_t)pieces;
  call->io.iov_left = count;
  call->io.direction = direction;
  call->io.total = total;
  call->io.begin_ns = begin;
  call->io.end_ns = end;
  return redis_bytes(conn, call);
}
