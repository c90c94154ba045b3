/* Loaded before libc: makes the n-th call that changes something below a folder fail, as a bad or full disk does. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char guarded[PATH_MAX], seen[2 * PATH_MAX + 64];
static long calls, fail_at;
static int failure, goes_on;

/* From now on: fail call number n (0 for none) below the folder, and with `lasting` all after it but removals. */
void fault_arm(const char *folder, long n, int error, int lasting) {
    snprintf(guarded, sizeof guarded, "%s", folder);
    calls = 0, fail_at = n, failure = error, goes_on = lasting, seen[0] = 0;
}

long fault_calls(void) { return calls; }

/* The first call that failed, and its path. */
const char *fault_seen(void) { return seen; }

static int fails(const char *name, const char *path) {
    char full[2 * PATH_MAX], here[PATH_MAX];
    if (!guarded[0] || !path)
        return 0;
    if (path[0] == '/')
        snprintf(full, sizeof full, "%s", path);
    else
        snprintf(full, sizeof full, "%s/%s", getcwd(here, sizeof here) ? here : "", path);
    if (strncmp(full, guarded, strlen(guarded)))
        return 0;
    long n = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
    if (!fail_at || n < fail_at || (n > fail_at && (!goes_on || !strncmp(name, "unlink", 6))))
        return 0;
    if (!seen[0])
        snprintf(seen, sizeof seen, "%s %s", name, full);
    errno = failure;
    return 1;
}

static int fails_file(const char *name, int file) {
    char link[64], path[PATH_MAX];
    if (!guarded[0])
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    return fails(name, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define ON_PATH(result, name, path, parameters, ...)                                                                   \
    result name parameters { return fails(#name, path) ? -1 : REAL(name)(__VA_ARGS__); }

#define ON_FILE(result, name, parameters, ...)                                                                         \
    result name parameters { return fails_file(#name, file) ? -1 : REAL(name)(__VA_ARGS__); }

#define OPEN(name, parameters, ...)                                                                                    \
    int name parameters {                                                                                              \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;                                        \
        va_end(rest);                                                                                                  \
        int writes = flags & (O_CREAT | O_WRONLY | O_RDWR);                                                            \
        return writes && fails(#name, path) ? -1 : REAL(name)(__VA_ARGS__);                                            \
    }

OPEN(open, (const char *path, int flags, ...), path, flags, mode)
OPEN(open64, (const char *path, int flags, ...), path, flags, mode)
OPEN(openat, (int folder, const char *path, int flags, ...), folder, path, flags, mode)
OPEN(openat64, (int folder, const char *path, int flags, ...), folder, path, flags, mode)

ON_FILE(ssize_t, write, (int file, const void *from, size_t n), file, from, n)
ON_FILE(ssize_t, pwrite, (int file, const void *from, size_t n, off_t at), file, from, n, at)
ON_FILE(ssize_t, pwrite64, (int file, const void *from, size_t n, off64_t at), file, from, n, at)
ON_FILE(ssize_t, writev, (int file, const struct iovec *from, int n), file, from, n)
ON_FILE(int, ftruncate, (int file, off_t length), file, length)
ON_FILE(int, ftruncate64, (int file, off64_t length), file, length)
ON_FILE(int, fsync, (int file), file)
ON_FILE(int, fdatasync, (int file), file)

ON_PATH(int, rename, to, (const char *from, const char *to), from, to)
ON_PATH(int, renameat, to, (int a, const char *from, int b, const char *to), a, from, b, to)
ON_PATH(int, link, to, (const char *from, const char *to), from, to)
ON_PATH(int, linkat, to, (int a, const char *from, int b, const char *to, int flags), a, from, b, to, flags)
ON_PATH(int, mkdir, path, (const char *path, mode_t mode), path, mode)
ON_PATH(int, mkdirat, path, (int folder, const char *path, mode_t mode), folder, path, mode)
ON_PATH(int, unlink, path, (const char *path), path)
ON_PATH(int, unlinkat, path, (int folder, const char *path, int flags), folder, path, flags)
ON_PATH(int, rmdir, path, (const char *path), path)
