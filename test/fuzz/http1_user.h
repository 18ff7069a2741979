// The HTTP/1 connection logic of bpf/http1_conn.h in user mode: what the kernel side gets from helpers comes from
// memory here, and finished exchanges go to a callback. Used by the fuzzer and by the differential test's driver.
#pragma once
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool user_short_way = true; // off: everything goes step by step
static bool user_wants_traces = true;
#define HTTP_SHORT_WAY user_short_way
#include "../../bpf/http1_whole.h"

struct finished {
  struct http_exchange exchange;
  unsigned error;
};

static u64 counters[HTTP_COUNTERS];
static void (*on_finished)(const struct finished *finished);
static void (*on_target)(const u8 *path, u32 length, u64 hash, bool cut);
static void (*on_trace_field)(const u8 *value, u32 length, bool state);

static __always_inline long http_read_user(void *target, u32 size, u64 address) {
  memcpy(target, (const void *)(uintptr_t)address, size);
  return 0;
}
static __always_inline long http_copy(void *target, u32 size, const void *source) {
  memmove(target, source, size);
  return 0;
}
static __always_inline void http_count(enum http_counter counter, u64 amount) { counters[counter] += amount; }
static __always_inline void http_on_target(struct http_conn *conn, struct http_call *call,
                                           struct http_direction *direction) {
  (void)conn;
  if (on_target)
    on_target(call->window.bytes + call->window.path_start, call->window.path_length, direction->parser.path_hash,
              direction->parser.flags & HTTP1_PATH_CUT);
}
static __always_inline void http_on_trace_field(struct http_conn *conn, struct http_call *call,
                                                struct http_direction *direction, int event) {
  (void)conn, (void)direction;
  if (on_trace_field)
    on_trace_field(call->window.bytes + call->window.value_start, call->window.value_length,
                   event == HTTP1_TRACESTATE);
}
static __always_inline bool http_wants_trace_fields(void) { return user_wants_traces; }
static __always_inline void http_on_request(struct http_conn *conn, struct http_call *call) { (void)conn, (void)call; }
static __always_inline void http_finish(struct http_conn *conn, struct http_end *end,
                                        struct http_exchange *exchange) {
  struct finished finished = {*exchange, end->error};
  (void)conn;
  if (on_finished)
    on_finished(&finished);
}

// One call of one thread: pieces as iovecs. `steps` bounds the work as the kernel's loop does.
#define USER_STEPS 4096
struct user_piece {
  u64 base, length;
};
static void user_call(struct http_conn *conn, struct http_call *call, unsigned direction, struct user_piece *pieces,
                      unsigned count, u64 now) {
  u64 total = 0;
  for (unsigned i = 0; i < count; i++)
    total += pieces[i].length;
  call->iov = (u64)(uintptr_t)pieces;
  call->iov_left = count;
  call->direction = direction;
  call->base = call->left = call->skip = 0;
  call->total = total;
  call->begin_ns = call->end.now_ns = now;
  http_take(conn, call, true, USER_STEPS);
}
