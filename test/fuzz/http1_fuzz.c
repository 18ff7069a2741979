// libFuzzer target for the HTTP/1 connection logic: any bytes, cut anywhere, in both directions, with gaps and closes.
// Beyond memory errors it checks that work is bounded, that nothing is settled twice or without having been asked, and
// that the fast path leaves a connection in the very state in which the step loop leaves it.
#include "http1_user.h"
#include "protocol/http1/http1_begins.h"

// One of the two runs, by the step loop (0) and with the fast path (1): its connection, and a hash of everything that it told
// its includer, in order.
struct run {
  struct http1_conn conn;
  struct http1_call call;
  u64 told;
  unsigned requests, finished;
};
static struct run *runs[2], *current;

static void tell(const void *bytes, size_t length) {
  for (size_t i = 0; i < length; i++)
    current->told = (current->told ^ ((const u8 *)bytes)[i]) * HTTP1_FNV_PRIME;
}
static void check_ended(const struct request_conn *conn, const struct request *request, const struct request_end *end) {
  (void)conn;
  current->finished++;
  tell(request, sizeof(*request));
  tell(&end->error, sizeof(end->error));
  if (request->operation == HTTP1_METHOD_NONE || request->operation > HTTP1_METHOD_OTHER)
    abort();
  if (end->error == REQUEST_NO_ERROR && (request->status < 101 || request->status > 999))
    abort();
  if (end->error >= REQUEST_ERRORS)
    abort();
}
static void check_name(const u8 *path, u32 length, u64 hash, bool cut) {
  current->requests++;
  tell(path, length);
  tell(&hash, sizeof(hash));
  tell(&cut, sizeof(cut));
  if (length > HTTP1_PATH)
    abort();
  for (u32 i = 0; i < length; i++)
    if (path[i] == '?' || path[i] == ' ' || path[i] == '\n' || path[i] == '#')
      abort(); // a query never leaves the kernel
}
static void check_trace(enum request_trace_field field, const u8 *value, u32 length) {
  if (request_user.wants_traces) {
    tell(value, length);
    tell(&field, sizeof(field));
  }
  if (length > HTTP1_LINE_SEEN)
    abort();
}

static void check_same(void) {
  struct http1_conn conns[2] = {runs[0]->conn, runs[1]->conn};
  for (int w = 0; w < 2; w++)
    for (int d = 0; d < 2; d++) {
      struct http1_parser *parser = &conns[w].directions[d].parser;
      struct http1_direction *direction = &conns[w].directions[d];
      if (parser->state == HTTP1_START) // of no meaning between messages
        parser->flags = parser->length = 0;
      // the head that the fast path keeps for itself
      direction->kept = direction->kept_path_start = direction->kept_path_length = direction->cache_misses = 0;
      memset(direction->carry + direction->carried, 0, sizeof(direction->carry) - direction->carried);
    }
  if (memcmp(&conns[0], &conns[1], sizeof(conns[0])) || runs[0]->told != runs[1]->told)
    abort();
}

// Does to both what one record asks for, by `act`.
static void both(void (*act)(struct run *run, void *with), void *with) {
  static u64 counts[2][REQUEST_COUNTERS];
  for (int w = 0; w < 2; w++) {
    current = runs[w];
    user_fast_path = w == 1;
    memset(request_user.counters, 0, sizeof(request_user.counters));
    act(current, with);
    memcpy(counts[w], request_user.counters, sizeof(counts[w]));
  }
  if (memcmp(counts[0], counts[1], sizeof(counts[0])))
    abort();
  check_same();
}

struct record {
  unsigned direction, count, length;
  u64 now;
  struct user_piece pieces[4];
};
static void act_close(struct run *run, void *with) {
  struct record *record = with;
  run->call.end.error = 1 + record->length % (REQUEST_ERRORS - 1);
  run->call.end.now_ns = record->now;
  http1_end(&run->conn, &run->call.end);
}
static void act_unobserved(struct run *run, void *with) {
  struct record *record = with;
  user_unobserved(&run->conn, &run->call, record->direction, record->length, record->now);
}
// Classification may only say no to what the parser would not take for HTTP either.
static bool may_begin(const struct record *record) {
  u8 look[HTTP1_BEGINS_LOOK] = {0};
  u64 length = record->pieces[0].length < sizeof(look) ? record->pieces[0].length : sizeof(look);
  memcpy(look, (const void *)(uintptr_t)record->pieces[0].base, length);
  return http1_begins(look, length, record->direction);
}
static void act_call(struct run *run, void *with) {
  struct record *record = with;
  bool refused = record->now == 1 && record->count == 1 && record->pieces[0].length && !may_begin(record);
  user_call(&run->conn, &run->call, record->direction, record->pieces, record->count, record->now);
  if (refused && (run->conn.base.flags & CONN_PROVEN))
    abort();
  for (int d = 0; d < 2; d++)
    if (run->conn.directions[d].carried > HTTP1_LINE_SEEN ||
        run->conn.directions[d].parser.state > HTTP1_TRAILER_REST)
      abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct record record = {.now = 1};
  const uint8_t *last = data; // what the last call carried
  unsigned last_length = 0;

  for (int w = 0; w < 2; w++) {
    if (!runs[w])
      runs[w] = malloc(sizeof(*runs[w]));
    memset(runs[w], 0, sizeof(*runs[w]));
  }
  request_user = (struct request_user){
      .named = check_name, .trace = check_trace, .ended = check_ended, .wants_traces = size & 1};
  // A record: one byte of kind and flags, one of length, the bytes.
  while (size >= 2) {
    unsigned kind = data[0], length = data[1] * ((kind & 16) ? 8 : 1);
    data += 2, size -= 2;
    if (length > size)
      length = size;
    record.direction = kind >> 7;
    record.length = length;
    if ((kind & 15) >= 14) {
      both((kind & 15) == 15 ? act_close : act_unobserved, &record);
      record.now++;
      continue;
    }
    bool again = (kind & 15) == 12 && !record.count; // the same bytes once more, with some of them changed
    unsigned amount = again ? last_length : length;
    u8 *copy = malloc(amount); // exact size: the sanitizer sees a read too far
    memcpy(copy, again ? last : data, amount);
    for (unsigned i = 0; again && i + 1 < length; i += 2)
      if (data[i] < amount)
        copy[data[i]] = data[i + 1];
    if (!again)
      last = data, last_length = length;
    record.pieces[record.count].base = (u64)(uintptr_t)copy;
    record.pieces[record.count++].length = amount;
    data += length, size -= length;
    if ((kind & 1) && record.count < 4)
      continue; // one more iovec of this call
    both(act_call, &record);
    record.now++;
    while (record.count)
      free((void *)(uintptr_t)record.pieces[--record.count].base);
  }
  while (record.count)
    free((void *)(uintptr_t)record.pieces[--record.count].base);
  for (int w = 0; w < 2; w++)
    if (runs[w]->finished > runs[w]->requests)
      abort();
  return 0;
}
