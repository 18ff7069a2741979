/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What one call of one thread moved on a connection (struct stream_call), and how a protocol reads the bytes of it: piece
 * by piece, from the memory of the process. The stream layer fills it (locate.h), protocols use it up.
 *
 * Compiles for BPF and for user mode, where protocols are fuzzed and compared with other parsers.
 */
#pragma once

#include "stream/base.h"

enum stream_direction { STREAM_REQUESTS, STREAM_ANSWERS };

/* Why a program of a protocol is called. */
enum stream_call_kind {
	STREAM_CALL_BYTES, /* the call moved `total` bytes */
	STREAM_CALL_END,   /* a client has read to the end: `error` says how it ended */
};

enum stream_call_flags {
	STREAM_CALL_SEEN = 1,	  /* the bytes can be read; else only their number is known */
	STREAM_CALL_FIRST = 2,	  /* the connection was classified by this call */
	STREAM_CALL_MIDWAY = 4,	  /* and had begun before it was observed */
	STREAM_CALL_DISORDER = 8, /* bytes before it were seen in the wrong order */
	STREAM_CALL_BLOCKS = 16,  /* it reads, and waits for what it reads: such a thread does one thing at a time */
};

struct stream_call {
	/* where the bytes are */
	u64 iov;	   /* address of the next struct iovec */
	u32 iov_left;	   /* how many more there are */
	u32 iov_in_kernel; /* that address is one of the kernel's */
	u64 base;	   /* user address of the rest of the current piece */
	u64 left;	   /* its length */
	u64 skip;	   /* bytes to step over before anything is read; already taken from `total` */
	u64 total;	   /* bytes of this call not yet dealt with */
	u64 unobserved;	   /* bytes between the last call of this direction and this one, of which no hook saw anything */
	u64 begin_ns;	   /* when the call began */
	u64 end_ns;	   /* when it returned */
	u64 answered_ns;   /* with STREAM_CALL_FIRST: when an answer passed that could not be followed; 0: none did */
	u64 timed_ns;	   /* set where the run of the protocol is timed: when it began */
	u8 kind;	   /* enum stream_call_kind */
	u8 flags;	   /* enum stream_call_flags */
	u8 direction;	   /* enum stream_direction */
	u8 error;	   /* enum request_error, of STREAM_CALL_END */
	u8 pad[4];
};

/* Moves on to the next piece. False: there is none, or it cannot be read. */
static __always_inline bool stream_next_piece(struct stream_call *call)
{
	struct {
		u64 base, length;
	} piece;

	if (!call->iov_left || (call->iov_in_kernel ? stream_copy(&piece, sizeof(piece), (const void *)call->iov)
						    : stream_read_user(&piece, sizeof(piece), call->iov)))
		return false;
	call->iov_left--;
	call->iov += sizeof(piece);
	call->base = piece.base;
	call->left = piece.length;
	return true;
}

/* Steps over what `skip` says, as far as the current piece goes. */
static __always_inline void stream_skip_piece(struct stream_call *call)
{
	u64 amount = call->skip < call->left ? call->skip : call->left;

	call->skip -= amount;
	call->base += amount;
	call->left -= amount;
}

/* Steps over `bytes` of the call, of which there must be as many, without reading them. */
static __always_inline void stream_step_over(struct stream_call *call, u64 bytes)
{
	call->skip += bytes;
	call->total -= bytes;
}

/* How much of the current piece belongs to the call, at most `limit`. */
static __always_inline u64 stream_readable(const struct stream_call *call, u64 limit)
{
	u64 amount = call->left < call->total ? call->left : call->total;

	return amount > limit ? limit : amount;
}

/* `amount` bytes of the current piece were read. */
static __always_inline void stream_used(struct stream_call *call, u64 amount)
{
	call->base += amount;
	call->left -= amount;
	call->total -= amount;
}
