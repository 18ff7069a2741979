/* SPDX-License-Identifier: GPL-2.0 OR BSD-2-Clause */
/*
 * System calls of 32-bit programs: their numbers, registers and structures differ from those of syscalls.h, which includes
 * this. Nothing here runs for a 64-bit program.
 */
#pragma once

/* arch/x86/entry/syscalls/syscall_32.tbl */
static __always_inline u32 stream_shape_i386(u32 number)
{
	switch (number) {
	case 3: /* read */
	case 371: /* recvfrom */
		return SHAPE_BUFFER;
	case 4: /* write */
	case 369: /* sendto */
		return SHAPE_BUFFER | SHAPE_SENDS;
	case 145: /* readv */
		return SHAPE_VECTOR;
	case 146: /* writev */
		return SHAPE_VECTOR | SHAPE_SENDS;
	case 372: /* recvmsg */
		return SHAPE_MESSAGE;
	case 370: /* sendmsg */
		return SHAPE_MESSAGE | SHAPE_SENDS;
	case 337: /* recvmmsg */
	case 417: /* recvmmsg_time64 */
		return SHAPE_MESSAGES;
	case 345: /* sendmmsg */
		return SHAPE_MESSAGES | SHAPE_SENDS;
	}
	return SHAPE_NONE;
}

/* arch/arm/tools/syscall.tbl */
static __always_inline u32 stream_shape_arm(u32 number)
{
	switch (number) {
	case 3: /* read */
	case 291: /* recv */
	case 292: /* recvfrom */
		return SHAPE_BUFFER;
	case 4: /* write */
	case 289: /* send */
	case 290: /* sendto */
		return SHAPE_BUFFER | SHAPE_SENDS;
	case 145: /* readv */
		return SHAPE_VECTOR;
	case 146: /* writev */
		return SHAPE_VECTOR | SHAPE_SENDS;
	case 297: /* recvmsg */
		return SHAPE_MESSAGE;
	case 296: /* sendmsg */
		return SHAPE_MESSAGE | SHAPE_SENDS;
	case 365: /* recvmmsg */
	case 417: /* recvmmsg_time64 */
		return SHAPE_MESSAGES;
	case 374: /* sendmmsg */
		return SHAPE_MESSAGES | SHAPE_SENDS;
	}
	return SHAPE_NONE;
}

/* The calls within i386's socketcall(), include/uapi/linux/net.h. */
static __always_inline u32 stream_shape_socketcall(u32 which)
{
	switch (which) {
	case 10: /* recv */
	case 12: /* recvfrom */
		return SHAPE_BUFFER;
	case 9:	 /* send */
	case 11: /* sendto */
		return SHAPE_BUFFER | SHAPE_SENDS;
	case 17: /* recvmsg */
		return SHAPE_MESSAGE;
	case 16: /* sendmsg */
		return SHAPE_MESSAGE | SHAPE_SENDS;
	case 19: /* recvmmsg */
		return SHAPE_MESSAGES;
	case 20: /* sendmmsg */
		return SHAPE_MESSAGES | SHAPE_SENDS;
	}
	return SHAPE_NONE;
}
#define I386_SOCKETCALL 102

/* The arguments are in memory, as 32-bit words: file descriptor, buffer, length, flags, and more where the call has them. */
static __always_inline void stream_read_socketcall(u32 which, u32 words, struct stream_syscall *call)
{
	u32 arguments[3], fifth = 0;

	call->shape = stream_shape_socketcall(which);
	if (call->shape == SHAPE_NONE)
		return;
	/* two words is what sendmsg and recvmsg need: there the length is their flags, and not used */
	if (bpf_probe_read_user(arguments, sizeof(arguments), (const void *)(u64)words) ||
	    ((call->shape & 7) == SHAPE_MESSAGES &&
	     bpf_probe_read_user(&fifth, sizeof(fifth), (const void *)(u64)words + 16))) {
		call->shape = SHAPE_NONE;
		return;
	}
	call->buffer = arguments[1];
	call->length = arguments[2];
	call->fifth = which == 19 ? fifth : 0;
}

static __noinline int stream_read_i386(struct pt_regs___stream_x86 *regs, struct stream_syscall *call)
{
	call->compat = true;
	if ((u32)regs->orig_ax == I386_SOCKETCALL) {
		stream_read_socketcall(regs->bx, regs->cx, call);
		return 0;
	}
	call->shape = stream_shape_i386(regs->orig_ax);
	call->buffer = (u32)regs->cx;
	call->length = (u32)regs->dx;
	call->fifth = (u32)regs->di;
	return 0;
}

static __noinline int stream_read_arm(struct pt_regs___stream_arm64 *regs, struct stream_syscall *call)
{
	call->compat = true;
	call->shape = stream_shape_arm(regs->syscallno);
	call->buffer = (u32)regs->regs[1];
	call->length = (u32)regs->regs[2];
	call->fifth = (u32)regs->regs[4];
	return 0;
}

/* struct compat_msghdr */
struct stream_msghdr32 {
	u32 name;
	u32 name_length;
	u32 iov;
	u32 iov_count;
};
#define STREAM_MMSGHDR32 32 /* sizeof(struct compat_mmsghdr) */
