/* The kernel's fixed-width types for test programs, so that compiling them needs no headers of the build machine. */
#pragma once
typedef unsigned char __u8;
typedef signed char __s8;
typedef unsigned short __u16;
typedef signed short __s16;
typedef unsigned int __u32;
typedef signed int __s32;
typedef unsigned long long __u64;
typedef signed long long __s64;
typedef __u16 __be16, __le16, __sum16;
typedef __u32 __be32, __le32, __wsum;
typedef __u64 __be64, __le64;
#define __bitwise
#define __aligned_u64 __u64 __attribute__((aligned(8)))
