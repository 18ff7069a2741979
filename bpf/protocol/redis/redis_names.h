/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * The commands and errors of Redis that have a name in metrics; all others are one. The parser (redis_parser.h) looks
 * words up here, userspace takes the names from BTF.
 */
#pragma once

#include "stream/base.h"

/* In order of their bytes: they are found by halving. Those of Redis 8 without the ones of modules and of its own tests. */
#define REDIS_COMMANDS(X) \
	X(ACL) X(APPEND) X(ASKING) X(AUTH) X(BGREWRITEAOF) X(BGSAVE) X(BITCOUNT) X(BITFIELD) \
	X(BITFIELD_RO) X(BITOP) X(BITPOS) X(BLMOVE) X(BLMPOP) X(BLPOP) X(BRPOP) X(BRPOPLPUSH) X(BZMPOP) \
	X(BZPOPMAX) X(BZPOPMIN) X(CLIENT) X(CLUSTER) X(COMMAND) X(CONFIG) X(COPY) X(DBSIZE) X(DEBUG) \
	X(DECR) X(DECRBY) X(DEL) X(DISCARD) X(DUMP) X(ECHO) X(EVAL) X(EVALSHA) X(EVALSHA_RO) X(EVAL_RO) \
	X(EXEC) X(EXISTS) X(EXPIRE) X(EXPIREAT) X(EXPIRETIME) X(FAILOVER) X(FCALL) X(FCALL_RO) \
	X(FLUSHALL) X(FLUSHDB) X(FUNCTION) X(GEOADD) X(GEODIST) X(GEOHASH) X(GEOPOS) X(GEORADIUS) \
	X(GEORADIUSBYMEMBER) X(GEORADIUSBYMEMBER_RO) X(GEORADIUS_RO) X(GEOSEARCH) X(GEOSEARCHSTORE) \
	X(GET) X(GETBIT) X(GETDEL) X(GETEX) X(GETRANGE) X(GETSET) X(HDEL) X(HELLO) X(HEXISTS) X(HEXPIRE) \
	X(HEXPIREAT) X(HEXPIRETIME) X(HGET) X(HGETALL) X(HGETDEL) X(HGETEX) X(HINCRBY) X(HINCRBYFLOAT) \
	X(HKEYS) X(HLEN) X(HMGET) X(HMSET) X(HPERSIST) X(HPEXPIRE) X(HPEXPIREAT) X(HPEXPIRETIME) X(HPTTL) \
	X(HRANDFIELD) X(HSCAN) X(HSET) X(HSETEX) X(HSETNX) X(HSTRLEN) X(HTTL) X(HVALS) X(INCR) X(INCRBY) \
	X(INCRBYFLOAT) X(INFO) X(KEYS) X(LASTSAVE) X(LATENCY) X(LCS) X(LINDEX) X(LINSERT) X(LLEN) \
	X(LMOVE) X(LMPOP) X(LPOP) X(LPOS) X(LPUSH) X(LPUSHX) X(LRANGE) X(LREM) X(LSET) X(LTRIM) X(MEMORY) \
	X(MGET) X(MIGRATE) X(MODULE) X(MONITOR) X(MOVE) X(MSET) X(MSETNX) X(MULTI) X(OBJECT) X(PERSIST) \
	X(PEXPIRE) X(PEXPIREAT) X(PEXPIRETIME) X(PFADD) X(PFCOUNT) X(PFMERGE) X(PING) X(PSETEX) \
	X(PSUBSCRIBE) X(PSYNC) X(PTTL) X(PUBLISH) X(PUBSUB) X(PUNSUBSCRIBE) X(QUIT) X(RANDOMKEY) \
	X(READONLY) X(READWRITE) X(RENAME) X(RENAMENX) X(REPLCONF) X(REPLICAOF) X(RESET) X(RESTORE) \
	X(ROLE) X(RPOP) X(RPOPLPUSH) X(RPUSH) X(RPUSHX) X(SADD) X(SAVE) X(SCAN) X(SCARD) X(SCRIPT) \
	X(SDIFF) X(SDIFFSTORE) X(SELECT) X(SENTINEL) X(SET) X(SETBIT) X(SETEX) X(SETNX) X(SETRANGE) \
	X(SHUTDOWN) X(SINTER) X(SINTERCARD) X(SINTERSTORE) X(SISMEMBER) X(SLAVEOF) X(SLOWLOG) X(SMEMBERS) \
	X(SMISMEMBER) X(SMOVE) X(SORT) X(SORT_RO) X(SPOP) X(SPUBLISH) X(SRANDMEMBER) X(SREM) X(SSCAN) \
	X(SSUBSCRIBE) X(STRLEN) X(SUBSCRIBE) X(SUBSTR) X(SUNION) X(SUNIONSTORE) X(SUNSUBSCRIBE) X(SWAPDB) \
	X(SYNC) X(TIME) X(TOUCH) X(TTL) X(TYPE) X(UNLINK) X(UNSUBSCRIBE) X(UNWATCH) X(WAIT) X(WAITAOF) \
	X(WATCH) X(XACK) X(XACKDEL) X(XADD) X(XAUTOCLAIM) X(XCLAIM) X(XDEL) X(XDELEX) X(XGROUP) X(XINFO) \
	X(XLEN) X(XPENDING) X(XRANGE) X(XREAD) X(XREADGROUP) X(XREVRANGE) X(XSETID) X(XTRIM) X(ZADD) \
	X(ZCARD) X(ZCOUNT) X(ZDIFF) X(ZDIFFSTORE) X(ZINCRBY) X(ZINTER) X(ZINTERCARD) X(ZINTERSTORE) \
	X(ZLEXCOUNT) X(ZMPOP) X(ZMSCORE) X(ZPOPMAX) X(ZPOPMIN) X(ZRANDMEMBER) X(ZRANGE) X(ZRANGEBYLEX) \
	X(ZRANGEBYSCORE) X(ZRANGESTORE) X(ZRANK) X(ZREM) X(ZREMRANGEBYLEX) X(ZREMRANGEBYRANK) \
	X(ZREMRANGEBYSCORE) X(ZREVRANGE) X(ZREVRANGEBYLEX) X(ZREVRANGEBYSCORE) X(ZREVRANK) X(ZSCAN) \
	X(ZSCORE) X(ZUNION) X(ZUNIONSTORE)

/* The first word of an error, in order as well. */
#define REDIS_ERRORS(X) \
	X(ASK) X(BUSY) X(BUSYGROUP) X(BUSYKEY) X(CLUSTERDOWN) X(CROSSSLOT) X(DENIED) X(ERR) X(EXECABORT) \
	X(INPROG) X(INVALIDOBJ) X(IOERR) X(LOADING) X(MASTERDOWN) X(MISCONF) X(MOVED) X(NOAUTH) \
	X(NOGOODSLAVE) X(NOGROUP) X(NOMASTERLINK) X(NOPERM) X(NOPROTO) X(NOQUORUM) X(NOREPLICAS) \
	X(NOSCRIPT) X(NOTBUSY) X(NOTREADY) X(OOM) X(READONLY) X(SYNTAX) X(TRYAGAIN) X(UNBLOCKED) \
	X(UNKILLABLE) X(VERSIONMISMATCH) X(WRONGPASS) X(WRONGTYPE)

#define REDIS_COMMAND_NAMED(name) REDIS_COMMAND_##name,
enum redis_command {
	REDIS_COMMAND_NONE, /* of a request that is not known */
	REDIS_COMMANDS(REDIS_COMMAND_NAMED)
	REDIS_COMMAND_OTHER,
};

/* What an answer says. */
#define REDIS_ERROR_NAMED(name) REDIS_STATUS_##name,
enum redis_status {
	REDIS_STATUS_NONE, /* no answer, or none that is sent */
	REDIS_STATUS_OK,
	REDIS_STATUS_QUEUED, /* to be carried out by EXEC */
	REDIS_ERRORS(REDIS_ERROR_NAMED)
	REDIS_STATUS_OTHER, /* an error by another word */
};
#define REDIS_FIRST_ERROR (REDIS_STATUS_QUEUED + 1)

#define REDIS_WORD 24 /* bytes that are looked at of a command's name, of a short argument, of an error's first word */

/* A word in upper case, zeroes behind it. */
struct redis_word {
	union {
		u8 bytes[REDIS_WORD];
		u64 parts[REDIS_WORD / 8];
	};
};

#define REDIS_COMMAND_SLOTS 256
#define REDIS_ERROR_SLOTS 64
_Static_assert(REDIS_COMMAND_OTHER < REDIS_COMMAND_SLOTS - 1, "the numbers of commands fit a byte");
_Static_assert(REDIS_STATUS_OTHER < REDIS_ERROR_SLOTS, "a slot for each error");

/* By number. Behind the last one there are words greater than any. */
#define REDIS_GREATEST "\xff\xff\xff\xff\xff\xff\xff\xff"
#define REDIS_NAME_OF(name) {{#name}},
static const struct redis_word redis_command_names[REDIS_COMMAND_SLOTS] = {
	{{""}},
	REDIS_COMMANDS(REDIS_NAME_OF)
	[REDIS_COMMAND_OTHER ... REDIS_COMMAND_SLOTS - 1] = {{REDIS_GREATEST}},
};
static const struct redis_word redis_error_names[REDIS_ERROR_SLOTS] = {
	{{""}},
	{{""}},
	{{""}},
	REDIS_ERRORS(REDIS_NAME_OF)
	[REDIS_STATUS_OTHER ... REDIS_ERROR_SLOTS - 1] = {{REDIS_GREATEST}},
};

/* Is the name at most the word? Bytes compare as numbers do when the first one weighs most. */
static __always_inline bool redis_not_above(const struct redis_word *name, u64 first, u64 second, u64 third)
{
	u64 part = __builtin_bswap64(name->parts[0]);

	if (part != first)
		return part < first;
	part = __builtin_bswap64(name->parts[1]);
	if (part != second)
		return part < second;
	return __builtin_bswap64(name->parts[2]) <= third;
}

static __always_inline u32 redis_find(const struct redis_word *names, u32 slots, u32 other, const struct redis_word *word)
{
	u64 first = __builtin_bswap64(word->parts[0]), second = __builtin_bswap64(word->parts[1]),
	    third = __builtin_bswap64(word->parts[2]);
	u32 found = 0;

	for (u32 step = slots / 2; step; step /= 2) {
		u32 at = found + step;

		STREAM_KEEP(at);
		at &= slots - 1; /* bounds the index for the verifier */
		if (redis_not_above(&names[at], first, second, third))
			found = at;
		STREAM_KEEP(found);
	}
	found &= slots - 1;
	return found < other && names[found].parts[0] == word->parts[0] && names[found].parts[1] == word->parts[1] &&
			       names[found].parts[2] == word->parts[2] ? found : other;
}

STREAM_FUNCTION u32 redis_find_command(const struct redis_word *word)
{
	if (!word || !word->parts[0])
		return REDIS_COMMAND_OTHER;
	return redis_find(redis_command_names, REDIS_COMMAND_SLOTS, REDIS_COMMAND_OTHER, word);
}

STREAM_FUNCTION u32 redis_find_error(const struct redis_word *word)
{
	if (!word || !word->parts[0])
		return REDIS_STATUS_OTHER;
	return redis_find(redis_error_names, REDIS_ERROR_SLOTS, REDIS_STATUS_OTHER, word);
}

/* Is it answered once for each channel, by pieces of its own kind? */
static __always_inline bool redis_is_subscription(u32 command)
{
	return command == REDIS_COMMAND_SUBSCRIBE || command == REDIS_COMMAND_PSUBSCRIBE ||
	       command == REDIS_COMMAND_SSUBSCRIBE || command == REDIS_COMMAND_UNSUBSCRIBE ||
	       command == REDIS_COMMAND_PUNSUBSCRIBE || command == REDIS_COMMAND_SUNSUBSCRIBE;
}

/* Does it wait at the server for something that others do? */
static __always_inline bool redis_is_blocking(u32 command)
{
	switch (command) {
	case REDIS_COMMAND_BLMOVE:
	case REDIS_COMMAND_BLMPOP:
	case REDIS_COMMAND_BLPOP:
	case REDIS_COMMAND_BRPOP:
	case REDIS_COMMAND_BRPOPLPUSH:
	case REDIS_COMMAND_BZMPOP:
	case REDIS_COMMAND_BZPOPMAX:
	case REDIS_COMMAND_BZPOPMIN:
	case REDIS_COMMAND_WAIT:
	case REDIS_COMMAND_WAITAOF:
	case REDIS_COMMAND_XREAD:
	case REDIS_COMMAND_XREADGROUP:
		return true;
	}
	return false;
}
