// The HTTP/1 connection logic of bpf/protocol/http1/ in user mode: what the kernel side gets from helpers comes from memory
// here, and what it tells of requests goes to functions that the test sets (`request_user`, bpf/requests/requests.h). Used by
// the fuzzer and by the differential test's driver.
#pragma once
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool user_fast_path = true; // off: everything goes step by step
#define HTTP1_FAST_PATH user_fast_path
#include "protocol/http1/http1_fast_path.h"

// One call of one thread: pieces as iovecs.
struct user_piece {
  u64 base, length;
};
static void user_call(struct http1_conn *conn, struct http1_call *call, unsigned direction, struct user_piece *pieces,
                      unsigned count, u64 now) {
  u64 total = 0;
  for (unsigned i = 0; i < count; i++)
    total += pieces[i].length;
  call->io.iov = (u64)(uintptr_t)pieces;
  call->io.iov_left = count;
  call->io.direction = direction;
  call->io.base = call->io.left = call->io.skip = 0;
  call->io.total = total;
  call->io.begin_ns = call->io.end_ns = now;
  conn->base.last_ns[direction] = now;
  http1_bytes(conn, call);
}

// The same of bytes that no hook showed.
static void user_unobserved(struct http1_conn *conn, struct http1_call *call, unsigned direction, u64 bytes, u64 now) {
  call->io.direction = direction;
  call->io.total = 0;
  call->io.end_ns = now;
  conn->base.last_ns[direction] = now;
  http1_unobserved(conn, call, bytes);
}
