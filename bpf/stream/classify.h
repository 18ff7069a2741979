/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * What does a connection speak? Judged by the first bytes that it carries, never by its port: a protocol says no only
 * where it is certain, and what turns out not to be it is given back (stream_refuse() in protocol.h).
 */
#pragma once

#include "stream/stream.h"
#include "protocol/protocols.h"

/* Those of the candidates (a bit each) that may begin with these bytes. */
static __always_inline u32 stream_candidates(const u8 *bytes, u32 length, bool is_answer)
{
	u32 found = 0;

#define STREAM_PROTOCOL(number, name) found |= name##_begins(bytes, length, is_answer) << number;
#include "protocol/protocols.h"
#undef STREAM_PROTOCOL
	return found;
}

/* Pieces of a call at most that are asked for its first byte: programs put empty ones in front, where a header is left out. */
#define STREAM_LOOK_PIECES 8

/* Moves to the first piece that has any byte. False: there is none among the first. */
static __always_inline bool stream_find_first(struct stream_call *call)
{
	for (int i = 0; i < STREAM_LOOK_PIECES; i++) {
		if (!call->left && !stream_next_piece(call))
			return false;
		stream_skip_piece(call);
		if (call->left)
			return true;
	}
	return false;
}

/* The protocol of a connection that begins with this call, whose bytes can be read and stay unread: one of the candidates,
 * STREAM_UNKNOWN, or less than that where the bytes cannot be read after all. A function of its own, since it runs once for
 * each connection, in ten programs. */
STREAM_FUNCTION int stream_classify(struct stream_work *work, u32 candidates)
{
	struct stream_call *call;
	u64 iov, base, left, skip, length;
	u32 iov_left, found = 0;
	bool read = false;

	if (!work)
		return STREAM_UNKNOWN;
	call = &work->call;
	iov = call->iov;
	iov_left = call->iov_left;
	base = call->base;
	left = call->left;
	skip = call->skip;
	if (stream_find_first(call)) {
		length = stream_readable(call, STREAM_LOOK);
		STREAM_KEEP(length);
		if (length <= STREAM_LOOK && !stream_read_user(work->look, length, call->base)) {
			found = stream_candidates(work->look, length, call->direction & 1) & candidates;
			read = true;
		}
	}
	call->iov = iov;
	call->iov_left = iov_left;
	call->base = base;
	call->left = left;
	call->skip = skip;
	for (int protocol = STREAM_UNKNOWN + 1; protocol < STREAM_PROTOCOLS_END; protocol++)
		if (found & 1 << protocol)
			return protocol;
	return read ? STREAM_UNKNOWN : STREAM_UNKNOWN - 1;
}
