// Feeds conversations to the HTTP/1 connection logic and prints what it made of them; driven by
// test/unit/http/parser.test.ts. Input, little-endian records: u8 kind, u32 length, bytes. Kinds: 0 a piece of the
// request direction, 1 of the answering direction, 2/3 the same but joined to the next record's call (an iovec),
// 4 close, 5 bytes of direction `first byte` that are not shown (u32 in the payload), 9 end of the conversation.
#include "http1_user.h"

static void print_finished(const struct finished *f) {
  const struct http_exchange *e = &f->exchange;
  printf("{\"method\":%u,\"status\":%u,\"hash\":\"%016llx\",\"minor\":%u,\"request\":%llu,\"response\":%llu,\"error\":%u,"
         "\"start\":%llu,\"first\":%llu,\"end\":%llu}\n",
         e->method, e->status, (unsigned long long)e->path_hash, e->minor, (unsigned long long)e->request_body,
         (unsigned long long)e->response_body, f->error, (unsigned long long)e->start_ns,
         (unsigned long long)e->first_byte_ns, (unsigned long long)e->end_ns);
}
static void print_bytes(const char *name, const u8 *bytes, u32 length, u64 hash, int cut) {
  printf("{\"%s\":\"", name);
  for (u32 i = 0; i < length; i++)
    printf("%02x", bytes[i]);
  printf("\",\"hash\":\"%016llx\",\"cut\":%d}\n", (unsigned long long)hash, cut);
}
static void print_target(const u8 *path, u32 length, u64 hash, bool cut) { print_bytes("path", path, length, hash, cut); }
static void print_trace(const u8 *value, u32 length, bool state) {
  print_bytes(state ? "tracestate" : "traceparent", value, length, 0, 0);
}

int main(void) {
  struct http_conn *conn = calloc(1, sizeof(*conn));
  struct http_call *call = calloc(1, sizeof(*call));
  struct user_piece pieces[64];
  unsigned count = 0;
  u64 now = 1;
  user_short_way = !getenv("HTTP1_STEP_BY_STEP");
  on_finished = print_finished;
  on_target = print_target;
  on_trace_field = print_trace;
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
      if (kind <= 1 || count == 64) {
        user_call(conn, call, kind & 1, pieces, count, now++);
        while (count)
          free((void *)(uintptr_t)pieces[--count].base);
      }
      continue;
    }
    if (kind == 4) {
      call->end.error = HTTP_ERROR_CLOSED;
      call->end.now_ns = now++;
      http_end_all(conn, &call->end);
    } else if (kind == 5) {
      u32 amount;
      memcpy(&amount, bytes + 1, 4);
      call->direction = bytes[0];
      call->total = 0;
      call->end.now_ns = now++;
      if (http_begin_call(conn, call))
        http_unseen(conn, call, amount);
    } else {
      printf("{\"flags\":%u,\"lost\":%llu}\n", conn->flags,
             (unsigned long long)(counters[HTTP_LOST_MALFORMED] + counters[HTTP_LOST_UNSEEN] + counters[HTTP_LOST_BUDGET] +
                                  counters[HTTP_LOST_PIPELINE] + counters[HTTP_LOST_UNMATCHED]));
      fflush(stdout);
      memset(conn, 0, sizeof(*conn));
      memset(counters, 0, sizeof(counters));
    }
    free(bytes);
  }
}
