/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * Could a connection that begins with these bytes be HTTP/1? For the classification of connections
 * (stream/classify.h), so it needs to be cheap, and right only where it says no: the parser decides.
 */
#pragma once

#include "stream/base.h"

#define HTTP1_BEGINS_METHOD 24 /* bytes of a method at most */

static __always_inline bool http1_begins(const u8 *bytes, u32 length, bool is_answer)
{
	const char version[] = "HTTP/1.";

	if (!length || bytes[0] == '\r' || bytes[0] == '\n')
		return length; /* an empty line in front (RFC 9112, 2.2) */
	if (is_answer) {
		for (u32 i = 0; i < sizeof(version) - 1; i++)
			if (i < length && bytes[i] != version[i])
				return false;
		return true;
	}
	for (u32 i = 0; i <= HTTP1_BEGINS_METHOD; i++) {
		u8 byte = bytes[i], target = bytes[i + 1];

		if (i >= length)
			return true;
		if (byte == ' ')
			return i > 1 && (i + 1 == length || (target > ' ' && target < 0x7f));
		if (byte != '-' && (byte < 'A' || byte > 'Z'))
			return false;
	}
	return false;
}
