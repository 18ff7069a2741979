/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * All protocols, one line each, in the order in which a new connection is tried; nothing else stands here. With
 * STREAM_PROTOCOL(number, name) defined, each header says that of its protocol, and so it comes into the numbers
 * (core/stream_state.h), into the classification (stream/classify.h) and into the calls (stream/deliver.h). Else it
 * defines <name>_begins().
 */
#include "protocol/http1/http1_begins.h"
#include "protocol/redis/redis_begins.h"
