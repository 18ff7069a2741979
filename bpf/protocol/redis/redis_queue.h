/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Where requests wait for their answers. Redis answers in order, and clients send thousands of requests ahead of the
 * answers, so one that waits takes a word of four bytes; of one call three more share a word, and equal ones any number.
 *
 * Two threads may be at work, one per direction: the asking side writes behind `tail`, the answering side reads at
 * `head`, and `balance` alone says what belongs together. It goes up by one for each answer that is expected and down by
 * one for each that came; who finds the other side's there takes it. What the other shall find is written before. An
 * answer may come first (a send is seen when it returns): then it waits in `early`, and the request takes it.
 *
 * `head` and `asked` move only by whoever holds the answering side (redis_conn.h): the thread that answers, who ends all
 * that waits, who joins anew. The walk that only looks copies them.
 */
#pragma once

#include "protocol/redis/redis_parser.h"

#define REDIS_QUEUE 1792 /* words; with everything else the state of a connection stays below 8 KiB, as the kernel allots it */
#define REDIS_EARLY 16	/* a power of two */

/*
 * A word. With the top bit clear it is a request: its command, and how much later it began than the one before.
 * Else it says something of a request.
 */
#define REDIS_LATER_BITS 23
#define REDIS_LATER_MASK ((1U << REDIS_LATER_BITS) - 1)
#define REDIS_KIND_MASK (15U << 28)
#define REDIS_LOAD_MASK ((1U << 28) - 1)
enum redis_queue_kind {
	REDIS_WORD_TIME = 8U << 28,	/* the next request began this many times 2^23 ticks later, besides */
	REDIS_WORD_AGAIN = 9U << 28,	/* as many more like the last one, of the same call */
	REDIS_WORD_MORE = 12U << 28,	/* up to three more of the same call: how many, and their commands */
	REDIS_WORD_ARGUMENT = 10U << 28, /* of the request before it */
	REDIS_WORD_LOST = 11U << 28,	/* as many answers of requests that had no room */
};
#define REDIS_MORE_COUNT 24 /* where the number stands in REDIS_WORD_MORE, behind the commands */
#define REDIS_MORE 3
#define REDIS_TICK 6 /* times in the queue are in units of 2^6 ns */

/* How many words one request takes at most, and a last one that tells of those without room. */
#define REDIS_ROOM 5

/* An answer that came first: when (of 2^38 ticks, 4 hours), its status, which confirmation it is, how many like it. */
#define REDIS_EARLY_TIME ((1ULL << 38) - 1)
#define REDIS_EARLY_STATUS 38
#define REDIS_EARLY_SHAPE 44
#define REDIS_EARLY_COUNT 48
_Static_assert(REDIS_STATUS_OTHER < 64, "a status fits six bits");
#define REDIS_EARLY_SAME ((1ULL << REDIS_EARLY_COUNT) - 1)

/* What the answering side has taken from the queue last. */
struct redis_asked {
	u64 ticks;     /* when it began */
	u32 argument;
	u32 again;     /* how many of the same the answering side has had */
	u32 left;      /* answers that still belong to it; 0: the next one is to be taken */
	u8 command;
	u8 lost;       /* nothing is known of it */
	u8 pad[2];
};

/* Where the asking side stands. */
struct redis_tail {
	u64 ticks;
	u32 at;
	u8 command; /* the last one; 0: one that goes with it stands by itself */
	u8 lost;    /* the last word counts requests without room */
	u8 pad[2];
	u32 word;   /* the last one */
	u32 pad2;
};

struct redis_queue {
	s32 balance;
	u32 head; /* the answering side's */
	struct redis_tail tail;
	struct redis_tail before; /* the last request, to take it back */
	u32 early_head; /* the asking side's */
	u32 early_taken; /* of the record there */
	u32 early_tail; /* the answering side's */
	u32 pad;
	struct redis_asked asked;
	u64 early[REDIS_EARLY];
	u32 words[REDIS_QUEUE];
};

/* Of a request it is below all of them. */
static __always_inline u32 redis_kind_of(u32 word)
{
	return word & 1U << 31 ? word & REDIS_KIND_MASK : 0;
}

static __always_inline u32 redis_next(u32 at)
{
	return at + 1 < REDIS_QUEUE ? at + 1 : 0;
}

/* Unreachable values become 0: bounds the index for the verifier. */
static __always_inline u32 *redis_queue_word(struct redis_queue *queue, u64 at)
{
	STREAM_KEEP(at);
	return &queue->words[at < REDIS_QUEUE ? at : 0];
}

static __always_inline u32 redis_room(const struct redis_queue *queue)
{
	u32 head = *(volatile const u32 *)&queue->head, tail = queue->tail.at;

	return head > tail ? head - tail - 1 : head + REDIS_QUEUE - tail - 1;
}

static __always_inline void redis_push_word(struct redis_queue *queue, u32 word)
{
	*(volatile u32 *)redis_queue_word(queue, queue->tail.at) = word;
	*(volatile u32 *)&queue->tail.at = redis_next(queue->tail.at);
	queue->tail.word = word;
}

/* Puts another one in the place of the last word. */
static __always_inline void redis_replace_word(struct redis_queue *queue, u32 word)
{
	u32 at = queue->tail.at;

	*(volatile u32 *)redis_queue_word(queue, at ? at - 1 : REDIS_QUEUE - 1) = word;
	queue->tail.word = word;
}

/* One more of the same call, in the last word or in one of its own. False: that needs another. */
static __always_inline bool redis_push_more(struct redis_queue *queue, u8 command)
{
	u32 word = queue->tail.word, kind = redis_kind_of(word), count = word >> REDIS_MORE_COUNT & 3;
	bool again = queue->tail.command == command;

	if (kind == REDIS_WORD_MORE && count < REDIS_MORE)
		redis_replace_word(queue, (word + (1U << REDIS_MORE_COUNT)) | (u32)command << 8 * count);
	else if (kind == REDIS_WORD_AGAIN && again && (word & REDIS_LOAD_MASK) < REDIS_LOAD_MASK)
		redis_replace_word(queue, word + 1);
	else if (redis_room(queue) < REDIS_ROOM)
		return false;
	else if (again)
		redis_push_word(queue, REDIS_WORD_AGAIN | 1);
	else
		redis_push_word(queue, REDIS_WORD_MORE | 1U << REDIS_MORE_COUNT | command);
	queue->tail.command = command;
	return true;
}

/* There is no room: only the answers of requests are counted. */
static __always_inline void redis_push_lost(struct redis_queue *queue, u32 answers)
{
	u32 word = queue->tail.word;

	if (queue->tail.lost && (word & REDIS_LOAD_MASK) + answers <= REDIS_LOAD_MASK)
		redis_replace_word(queue, word + answers);
	else
		redis_push_word(queue, REDIS_WORD_LOST | (answers & REDIS_LOAD_MASK));
	queue->tail.command = 0;
	queue->tail.lost = 1;
}

/*
 * Writes down a request that began at `ticks` and expects `answers`; `argument` goes with it where it is not 0. Nobody
 * sees it before redis_publish(). False: there is no room for it.
 */
static __always_inline bool redis_push(struct redis_queue *queue, u8 command, u64 ticks, u32 answers, u32 argument)
{
	u64 later = ticks > queue->tail.ticks ? ticks - queue->tail.ticks : 0;

	queue->before = queue->tail;
	if (!later && !argument && queue->tail.command && redis_push_more(queue, command))
		return true;
	if (redis_room(queue) < REDIS_ROOM) {
		redis_push_lost(queue, answers);
		return false;
	}
	if (later > REDIS_LATER_MASK)
		redis_push_word(queue, REDIS_WORD_TIME | ((later >> REDIS_LATER_BITS) & REDIS_LOAD_MASK));
	redis_push_word(queue, (u32)command << REDIS_LATER_BITS | (later & REDIS_LATER_MASK));
	if (argument)
		redis_push_word(queue, REDIS_WORD_ARGUMENT | (argument & REDIS_LOAD_MASK));
	queue->tail.ticks += later;
	queue->tail.command = argument ? 0 : command;
	queue->tail.lost = 0;
	return true;
}

/* Shows the other side what was written. How many answers had come already; the first of them are the asker's to take. */
static __always_inline u32 redis_publish(struct redis_queue *queue, u32 answers)
{
	s32 before = __sync_fetch_and_add(&queue->balance, answers);

	return before < 0 ? -before : 0;
}

/* Takes back what redis_push() wrote and redis_publish() found answered. */
static __always_inline void redis_take_back(struct redis_queue *queue)
{
	queue->tail = queue->before;
	redis_replace_word(queue, queue->tail.word);
}

/* What waits behind `asked` and `*at`; there must be something. Moves both to it; false where the queue makes no sense. */
static __always_inline bool redis_load_from(struct redis_queue *queue, struct redis_asked *asked, u32 *at)
{
	u64 ticks = asked->ticks;
	u32 head = *(volatile u32 *)at;

	for (u32 i = 0; i < REDIS_ROOM; i++) {
		u32 word = *(volatile u32 *)redis_queue_word(queue, head), load = word & REDIS_LOAD_MASK;

		switch (redis_kind_of(word)) {
		case REDIS_WORD_AGAIN:
			if (asked->again < load)
				goto same_call;
			asked->again = 0;
			break;
		case REDIS_WORD_MORE:
			if (asked->again < (load >> REDIS_MORE_COUNT & 3)) {
				asked->command = load >> 8 * (asked->again & 3);
				goto same_call;
			}
			asked->again = 0;
			break;
		case REDIS_WORD_LOST:
			if (asked->again < load) {
				asked->lost = 1;
				goto same_call;
			}
			asked->again = 0;
			break;
		case REDIS_WORD_TIME:
			ticks += (u64)load << REDIS_LATER_BITS;
			break;
		case REDIS_WORD_ARGUMENT: /* came with its request */
			break;
		default:
			ticks += word & REDIS_LATER_MASK;
			asked->ticks = ticks;
			asked->command = word >> REDIS_LATER_BITS;
			asked->lost = 0;
			asked->again = 0;
			head = redis_next(head);
			word = *(volatile u32 *)redis_queue_word(queue, head);
			asked->argument = 0;
			if (head != *(volatile u32 *)&queue->tail.at && redis_kind_of(word) == REDIS_WORD_ARGUMENT)
				asked->argument = word & REDIS_LOAD_MASK;
			goto found;
		}
		head = redis_next(head);
	}
	return false;
same_call:
	asked->again++;
	asked->argument = 0;
found:
	asked->left = 1;
	*(volatile u32 *)at = head;
	return true;
}

/* The next request that waits, for who holds the answering side. Leaves it in `queue->asked`. */
static __always_inline bool redis_load(struct redis_queue *queue)
{
	return redis_load_from(queue, &queue->asked, &queue->head);
}

/*
 * Answers that came first.
 */

/* Keeps one. False: there is no room. Nobody sees it before redis_answered(). */
static __always_inline bool redis_early_put(struct redis_queue *queue, u64 ticks, u8 status, u8 shape)
{
	u64 record = (ticks & REDIS_EARLY_TIME) | (u64)(status & 63) << REDIS_EARLY_STATUS |
		     (u64)(shape & 15) << REDIS_EARLY_SHAPE;
	u64 *slot = &queue->early[(queue->early_tail - 1) & (REDIS_EARLY - 1)];
	u32 waiting = queue->early_tail - *(volatile u32 *)&queue->early_head;

	if (waiting && (*slot & REDIS_EARLY_SAME) == record && *slot >> REDIS_EARLY_COUNT < 0xffff) {
		*(volatile u64 *)slot += 1ULL << REDIS_EARLY_COUNT;
		return true;
	}
	if (waiting >= REDIS_EARLY)
		return false;
	*(volatile u64 *)&queue->early[queue->early_tail & (REDIS_EARLY - 1)] = record | 1ULL << REDIS_EARLY_COUNT;
	queue->early_tail++;
	return true;
}

/* It was not to be kept: its request is there by now. */
static __always_inline void redis_early_take_back(struct redis_queue *queue)
{
	u64 *slot = &queue->early[(queue->early_tail - 1) & (REDIS_EARLY - 1)];

	if (*slot >> REDIS_EARLY_COUNT > 1)
		*(volatile u64 *)slot -= 1ULL << REDIS_EARLY_COUNT;
	else
		queue->early_tail--;
}

/* The first one that is kept; there must be one. */
static __always_inline u64 redis_early_take(struct redis_queue *queue)
{
	u64 record = *(volatile u64 *)&queue->early[queue->early_head & (REDIS_EARLY - 1)];

	if (queue->early_taken >= record >> REDIS_EARLY_COUNT) {
		*(volatile u32 *)&queue->early_head = queue->early_head + 1;
		queue->early_taken = 0;
		record = *(volatile u64 *)&queue->early[queue->early_head & (REDIS_EARLY - 1)];
	}
	queue->early_taken++;
	return record;
}

/* When it was, of `now`. */
static __always_inline u64 redis_early_ticks(u64 record, u64 now)
{
	return now - ((now - record) & REDIS_EARLY_TIME);
}
