// libFuzzer target for the HTTP/1 connection logic: any bytes, cut anywhere, in both directions, with gaps and closes.
// Beyond memory errors it checks that work is bounded and that nothing is settled twice or without having been asked.
#include "http1_user.h"

static unsigned requests, finished_count;
static void check_finished(const struct finished *f) {
  finished_count++;
  if (f->exchange.method == HTTP1_METHOD_NONE || f->exchange.method > HTTP1_METHOD_OTHER)
    abort();
  if (f->error == HTTP_NO_ERROR && (f->exchange.status < 101 || f->exchange.status > 999))
    abort();
  if (f->error >= HTTP_ERRORS)
    abort();
}
static void check_target(const u8 *path, u32 length, u64 hash, bool cut) {
  (void)hash, (void)cut;
  requests++;
  if (length > HTTP1_PATH)
    abort();
  for (u32 i = 0; i < length; i++)
    if (path[i] == '?' || path[i] == ' ' || path[i] == '\n' || path[i] == '#')
      abort(); // a query never leaves the kernel
}
static void check_trace(const u8 *value, u32 length, bool state) {
  (void)value, (void)state;
  if (length > HTTP1_LINE_SEEN)
    abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  static struct http_conn *conn;
  static struct http_call *call;
  struct user_piece pieces[4];
  unsigned count = 0;
  u64 now = 1;

  if (!conn) {
    conn = malloc(sizeof(*conn));
    call = calloc(1, sizeof(*call));
  }
  memset(conn, 0, sizeof(*conn));
  requests = finished_count = 0;
  on_finished = check_finished;
  on_target = check_target;
  on_trace_field = check_trace;
  // A record: one byte of kind and flags, one of length, the bytes.
  while (size >= 2) {
    unsigned kind = data[0], length = data[1] * ((kind & 16) ? 8 : 1);
    data += 2, size -= 2;
    if (length > size)
      length = size;
    if ((kind & 15) == 15) {
      call->end.error = 1 + length % (HTTP_ERRORS - 1);
      call->end.now_ns = now++;
      http_end_all(conn, &call->end);
      continue;
    }
    if ((kind & 15) == 14) {
      call->direction = kind >> 7;
      call->total = 0;
      call->end.now_ns = now++;
      if (http_begin_call(conn, call))
        http_unseen(conn, call, length);
      continue;
    }
    u8 *copy = malloc(length);
    memcpy(copy, data, length);
    pieces[count].base = (u64)(uintptr_t)copy;
    pieces[count++].length = length;
    data += length, size -= length;
    if ((kind & 1) && count < 4)
      continue; // one more iovec of this call
    user_call(conn, call, kind >> 7, pieces, count, now++);
    while (count)
      free((void *)(uintptr_t)pieces[--count].base);
    for (int d = 0; d < 2; d++)
      if (conn->directions[d].carried > HTTP1_LINE_SEEN || conn->directions[d].parser.state > HTTP1_TRAILER_REST)
        abort();
  }
  while (count)
    free((void *)(uintptr_t)pieces[--count].base);
  if (finished_count > requests)
    abort();
  return 0;
}
