// Feeds conversations to the Redis connection logic and prints what it made of them; driven by test/unit/redis/.
// Input, little-endian records: u8 kind, u32 length, bytes. Kinds: 0 a piece of the asking direction, 1 of the answering
// one, 2/3 the same but joined to the next record's call (an iovec), 4 close, 5 bytes of direction `first byte` that are
// not shown (u32 in the payload), 6 join midway, 7 do the bytes look like Redis (first byte: is an answer),
// 8 the next call began so many steps before (u32), 9 end, 10 ends with an error (first byte), 11 while the next record is
// worked at, as its first request is over: the connection ends with an error (first byte), or bytes of an answer come in.
#include "redis_user.h"

// What another processor does in the middle of a call.
static struct {
  struct redis_conn *conn;
  struct redis_call *call;
  u8 error;
  struct user_piece answer;
  bool armed;
  u64 now;
} meanwhile;

static void do_meanwhile(void) {
  struct request_end end = {.now_ns = meanwhile.now, .error = meanwhile.error};
  if (!meanwhile.armed)
    return;
  meanwhile.armed = false;
  redis_waiting(meanwhile.conn, 0); // a walk looks on
  if (meanwhile.error)
    redis_end(meanwhile.conn, &end);
  else
    user_call(meanwhile.conn, meanwhile.call, STREAM_ANSWERS, &meanwhile.answer, 1, meanwhile.now, meanwhile.now + 512);
}

static void print_ended(const struct request_conn *conn, const struct request *r, const struct request_end *end) {
  (void)conn;
  printf("{\"command\":\"%.24s\",\"status\":%u,\"database\":%d,\"error\":%u,\"start\":%llu,\"first\":%llu,\"end\":%llu,"
         "\"number\":%u}\n",
         r->operation == REDIS_COMMAND_OTHER ? "_OTHER" : (const char *)redis_command_names[r->operation].bytes,
         r->status, r->detail - 1, end->error, (unsigned long long)r->start_ns / 1024,
         (unsigned long long)r->first_byte_ns / 1024, (unsigned long long)r->end_ns / 1024, r->number);
  do_meanwhile();
}

// Names by number, and that the tables are in order, without which nothing is found in them.
static void print_names(void) {
  printf("{\"statuses\":[\"\",\"OK\",\"QUEUED\"");
  for (unsigned i = REDIS_FIRST_ERROR; i < REDIS_STATUS_OTHER; i++)
    printf(",\"%.24s\"", redis_error_names[i].bytes);
  printf(",\"_OTHER\"],\"commands\":[\"\"");
  for (unsigned i = 1; i < REDIS_COMMAND_OTHER; i++) {
    printf(",\"%.24s\"", redis_command_names[i].bytes);
    if (redis_find_command(&redis_command_names[i]) != i)
      exit(3);
  }
  for (unsigned i = REDIS_FIRST_ERROR; i < REDIS_STATUS_OTHER; i++)
    if (redis_find_error(&redis_error_names[i]) != i)
      exit(3);
  printf("],\"size\":%zu,\"parser\":%zu}\n", sizeof(struct redis_conn), sizeof(struct redis_parser));
}

int main(void) {
  struct redis_conn *conn = calloc(1, sizeof(*conn));
  struct redis_call *call = calloc(1, sizeof(*call));
  struct user_piece pieces[64];
  unsigned count = 0;
  u64 now = 1024, earlier = 0;
  request_user.ended = print_ended;
  meanwhile.conn = conn;
  meanwhile.call = calloc(1, sizeof(*call));
  print_names();
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
        user_call(conn, call, kind & 1, pieces, count, now - earlier, now + 512);
        now += 1024, earlier = 0;
        while (count)
          free((void *)(uintptr_t)pieces[--count].base);
      }
      continue;
    }
    if (kind == 11) {
      meanwhile.armed = true;
      meanwhile.error = bytes[0];
      meanwhile.answer.base = (u64)(uintptr_t)(bytes + 1);
      meanwhile.answer.length = length - 1;
      meanwhile.now = now;
      continue; // the bytes are kept
    }
    if (kind == 4 || kind == 10) {
      call->end.error = kind == 4 ? REQUEST_ERROR_CLOSED : bytes[0];
      call->end.now_ns = now;
      redis_end(conn, &call->end);
      now += 1024;
    } else if (kind == 5) {
      u32 amount;
      memcpy(&amount, bytes + 1, 4);
      memset(&call->io, 0, sizeof(call->io));
      call->io.direction = bytes[0];
      call->io.begin_ns = call->io.end_ns = now;
      redis_unobserved(conn, call, amount);
      now += 1024;
    } else if (kind == 8) {
      u32 steps;
      memcpy(&steps, bytes, 4);
      earlier = steps * 1024ULL;
    } else if (kind == 6) {
      conn->base.flags |= CONN_RESYNC;
    } else if (kind == 7) {
      u8 *exact = malloc(length - 1 ? length - 1 : 1);
      memcpy(exact, bytes + 1, length - 1);
      printf("{\"begins\":%d}\n", redis_begins(exact, length - 1, bytes[0]));
      free(exact);
    } else {
      u64 lost = 0;
      for (unsigned i = 0; i <= REQUEST_LOST_SPAN_LIMIT; i++)
        lost += request_user.counters[i];
      printf("{\"flags\":%u,\"lost\":%llu,\"waiting\":%d,\"joined\":%llu}\n", conn->base.flags, (unsigned long long)lost,
             conn->queue.balance, (unsigned long long)request_user.counters[REQUEST_RESYNCED]);
      fflush(stdout);
      memset(conn, 0, sizeof(*conn));
      memset(request_user.counters, 0, sizeof(request_user.counters));
    }
    free(bytes);
  }
}
