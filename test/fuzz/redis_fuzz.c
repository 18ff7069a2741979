// libFuzzer target for the Redis connection logic: any bytes, cut anywhere, in both directions, with gaps and closes.
// Beyond memory errors it checks that no request is over twice or without having been asked, that numbers are of their
// enumerations, and that a call comes to the very same state when its bytes are shown one at a time.
#include "redis_user.h"

// One of the two ways: its connection, and a hash of everything that it told, in order.
struct way {
  struct redis_conn conn;
  struct redis_call call;
  u64 told;
  u64 requests, over;
};
static struct way *ways[2], *current;

static void check_ended(const struct request_conn *conn, const struct request *request, const struct request_end *end) {
  const u8 *bytes = (const u8 *)request;
  (void)conn;
  current->over++;
  for (size_t i = 0; i < sizeof(*request); i++)
    current->told = (current->told ^ bytes[i]) * 0x100000001b3ULL;
  current->told = (current->told ^ end->error) * 0x100000001b3ULL;
  if (request->operation == REDIS_COMMAND_NONE || request->operation > REDIS_COMMAND_OTHER ||
      request->status > REDIS_STATUS_OTHER || end->error >= REQUEST_ERRORS || request->start_ns > request->end_ns + 64)
    abort();
}

static void check_state(const struct way *way) {
  const struct redis_queue *queue = &way->conn.queue;
  for (int d = 0; d < 2; d++) {
    const struct redis_parser *parser = &way->conn.directions[d].parser;
    if (parser->state > REDIS_INLINE || parser->streams > REDIS_STREAMS || parser->word_length > REDIS_WORD + 1)
      abort();
  }
  if (queue->head >= REDIS_QUEUE || queue->tail.at >= REDIS_QUEUE)
    abort();
  if (way->over > way->conn.directions[0].number && way->conn.directions[0].number < 0xff00)
    abort();
}

struct record {
  unsigned direction, count, length;
  u64 now;
  struct user_piece pieces[4];
};
static void act_call(struct way *way, struct record *record, bool singly) {
  static struct user_piece bytes[4 * 4096];
  unsigned count = 0;
  if (!singly) {
    user_call(&way->conn, &way->call, record->direction, record->pieces, record->count, record->now, record->now + 100);
    return;
  }
  for (unsigned p = 0; p < record->count; p++)
    for (u64 i = 0; i < record->pieces[p].length; i++)
      bytes[count++] = (struct user_piece){record->pieces[p].base + i, 1};
  user_call(&way->conn, &way->call, record->direction, bytes, count, record->now, record->now + 100);
}
static void act_other(struct way *way, struct record *record, bool close) {
  if (close) {
    way->call.end.error = 1 + record->length % (REQUEST_ERRORS - 1);
    way->call.end.now_ns = record->now;
    redis_waiting(&way->conn, 0);
    redis_end(&way->conn, &way->call.end);
    return;
  }
  memset(&way->call.io, 0, sizeof(way->call.io));
  way->call.io.direction = record->direction;
  redis_unobserved(&way->conn, &way->call, record->length);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
  struct record record = {.now = 1000};
  bool same = true;

  for (int w = 0; w < 2; w++) {
    if (!ways[w])
      ways[w] = malloc(sizeof(*ways[w]));
    memset(ways[w], 0, sizeof(*ways[w]));
  }
  request_user.ended = check_ended;
  if (size)
    for (int answer = 0; answer < 2; answer++) {
      u8 *copy = malloc(size); // exact size: the sanitizer sees a read too far
      memcpy(copy, data, size);
      redis_begins(copy, size, answer);
      free(copy);
    }
  // A record: one byte of kind and flags, one of length, the bytes.
  while (size >= 2) {
    unsigned kind = data[0], length = data[1] * ((kind & 16) ? 8 : 1);
    data += 2, size -= 2;
    if (length > size)
      length = size;
    record.direction = kind >> 7;
    record.length = length;
    if ((kind & 15) < 14) {
      u8 *copy = malloc(length);
      memcpy(copy, data, length);
      record.pieces[record.count].base = (u64)(uintptr_t)copy;
      record.pieces[record.count++].length = length;
      data += length, size -= length;
      if ((kind & 1) && record.count < 4)
        continue; // one more iovec of this call
    }
    for (int w = 0; w < 2; w++) {
      current = ways[w];
      if ((kind & 15) < 14)
        act_call(current, &record, w);
      else
        act_other(current, &record, (kind & 15) == 15);
      check_state(current);
    }
    record.now += 1000;
    if ((kind & 15) < 14)
      while (record.count)
        free((void *)(uintptr_t)record.pieces[--record.count].base);
    // what is waited for after a desynchronisation has to be in view at once
    if ((ways[0]->conn.base.flags | ways[1]->conn.base.flags) & CONN_RESYNC)
      same = false;
    if (same && (ways[0]->told != ways[1]->told || memcmp(&ways[0]->conn, &ways[1]->conn, sizeof(ways[0]->conn))))
      abort();
  }
  while (record.count)
    free((void *)(uintptr_t)record.pieces[--record.count].base);
  return 0;
}
