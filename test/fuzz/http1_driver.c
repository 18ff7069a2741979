// Feeds conversations to the HTTP/1 connection logic and prints what it made of them; run by
// test/unit/http/parser.test.ts. Input, little-endian records: u8 kind, u32 length, bytes. Kinds: 0 a piece of the
// request direction, 1 of the answering direction, 2/3 the same but joined to the next record's call (an iovec),
// 4 close, 6 idle for too long, 7 (first) the connection had begun before, 5 bytes of direction `first byte` that are unobserved (u32 in the payload), 9 end of the conversation.
#include "http1_user.h"

static void print_ended(const struct request_conn *conn, const struct request *e, const struct request_end *end) {
  (void)conn;
  printf("{\"method\":%u,\"status\":%u,\"hash\":\"%016llx\",\"minor\":%u,\"request\":%llu,\"response\":%llu,\"error\":%u,"
         "\"start\":%llu,\"first\":%llu,\"end\":%llu}\n",
         e->operation, e->status, (unsigned long long)e->name_hash, e->detail, (unsigned long long)e->request_bytes,
         (unsigned long long)e->response_bytes, end->error, (unsigned long long)e->start_ns,
         (unsigned long long)e->first_byte_ns, (unsigned long long)e->end_ns);
}
static void print_bytes(const char *name, const u8 *bytes, u32 length, u64 hash, int cut) {
  printf("{\"%s\":\"", name);
  for (u32 i = 0; i < length; i++)
    printf("%02x", bytes[i]);
  printf("\",\"hash\":\"%016llx\",\"cut\":%d}\n", (unsigned long long)hash, cut);
}
static void print_name(const u8 *path, u32 length, u64 hash, bool cut) { print_bytes("path", path, length, hash, cut); }
static void print_trace(enum request_trace_field field, const u8 *value, u32 length) {
  print_bytes(field == REQUEST_TRACESTATE ? "tracestate" : "traceparent", value, length, 0, 0);
}

int main(void) {
  struct http1_conn *conn = calloc(1, sizeof(*conn));
  struct http1_call *call = calloc(1, sizeof(*call));
  struct user_piece pieces[1024];
  unsigned count = 0;
  u64 now = 1;
  user_fast_path = !getenv("HTTP1_STEP_BY_STEP");
  request_user = (struct request_user){
      .named = print_name, .trace = print_trace, .ended = print_ended, .wants_traces = true};
  for (;;) {
    u8 kind;
    u32 length;
    if (fread(&kind, 1, 1, stdin) != 1 || fread(&length, 4, 1, stdin) != 1)
      return 0;
    u8 *bytes = malloc(length + 1); // exact size: the sanitizer sees a read too far
    if (length && fread(bytes, 1, length, stdin) != length)
      return 1;
    if (kind <= 3) {
      pieces[count].base = (u64)(uintptr_t)bytes;
      pieces[count++].length = length;
      if (kind <= 1 || count == 1024) {
        user_call(conn, call, kind & 1, pieces, count, now++);
        while (count)
          free((void *)(uintptr_t)pieces[--count].base);
      }
      continue;
    }
    if (kind == 4 || kind == 6) {
      call->end.error = kind == 4 ? REQUEST_ERROR_CLOSED : REQUEST_ERROR_IDLE;
      call->end.now_ns = now++;
      http1_end(conn, &call->end);
    } else if (kind == 7) {
      conn->base.flags = CONN_RESYNC;
    } else if (kind == 5) {
      u32 amount;
      memcpy(&amount, bytes + 1, 4);
      user_unobserved(conn, call, bytes[0], amount, now++);
    } else {
      u64 *counters = request_user.counters;
      printf("{\"flags\":%u,\"lost\":%llu}\n", conn->base.flags,
             (unsigned long long)(counters[REQUEST_LOST_MALFORMED] + counters[REQUEST_LOST_UNSEEN] + counters[REQUEST_LOST_BUDGET] +
                                  counters[REQUEST_LOST_PIPELINE] + counters[REQUEST_LOST_UNMATCHED]));
      fflush(stdout);
      memset(conn, 0, sizeof(*conn));
      memset(counters, 0, sizeof(request_user.counters));
    }
    free(bytes);
  }
}
