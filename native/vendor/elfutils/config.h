/* What elfutils' configure finds on Linux with glibc, written by hand; see ../README.md. */
#define _GNU_SOURCE 1
#define PACKAGE_NAME "elfutils"
#define PACKAGE_VERSION "0.192"
#define HAVE_DECL_MEMPCPY 1
#define HAVE_DECL_MEMRCHR 1
#define HAVE_DECL_POWEROF2 1
#define HAVE_DECL_RAWMEMCHR 1
#define HAVE_DECL_REALLOCARRAY 1
#define HAVE_FALLTHROUGH 1
#define HAVE_GCC_STRUCT 1
#define HAVE_VISIBILITY 1
#define HAVE_ERR_H 1
#define HAVE_ERROR_H 1
#define HAVE_STRUCT_TIMESPEC 1
#include <eu-config.h>
