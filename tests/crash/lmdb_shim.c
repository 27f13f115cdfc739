/* Lets the n-th write or flush of LMDB's data file fail; preloaded by test_lmdb_faults.py.
 *
 * LMDB writes past zkstore's Disk, so its faults are made between it and the C library. Only
 * descriptors whose file is named *.mdb are touched. A write that fails may first write a half.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_int calls, failures;
static int fail_at, fail_errno, fail_for_good, fail_half;

/* n: the first call that fails, from now on; 0: none. Half: the first failing write writes half, and
 * returns that (as a disk that becomes full does) instead of the error. */
void shim_arm(int n, int error, int for_good, int half)
{
    fail_at = n;
    fail_errno = error;
    fail_for_good = for_good;
    fail_half = half;
    atomic_store(&calls, 0);
    atomic_store(&failures, 0);
}

int shim_failures(void) { return atomic_load(&failures); }

static int fails(int fd)
{
    char link[64], path[4096];
    ssize_t length;
    int n;

    if (fail_at == 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    length = readlink(link, path, sizeof path);
    if (length < 4 || memcmp(path + length - 4, ".mdb", 4) != 0)
        return 0;
    n = atomic_fetch_add(&calls, 1) + 1;
    if (n != fail_at && !(fail_for_good && n > fail_at))
        return 0;
    atomic_fetch_add(&failures, 1);
    errno = fail_errno;
    return 1;
}

static int half(void) { return fail_half && atomic_load(&failures) == 1; }

#define REAL(name) __typeof__(&name) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

ssize_t pwrite(int fd, const void *data, size_t size, off_t offset)
{
    REAL(pwrite);
    if (fails(fd))
        return half() ? real(fd, data, size / 2, offset) : -1;
    return real(fd, data, size, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    REAL(pwrite64);
    if (fails(fd))
        return half() ? real(fd, data, size / 2, offset) : -1;
    return real(fd, data, size, offset);
}

ssize_t write(int fd, const void *data, size_t size)
{
    REAL(write);
    if (fails(fd))
        return half() ? real(fd, data, size / 2) : -1;
    return real(fd, data, size);
}

ssize_t pwritev(int fd, const struct iovec *pieces, int count, off_t offset)
{
    REAL(pwritev);
    if (fails(fd))
        return half() ? real(fd, pieces, 1, offset) : -1;
    return real(fd, pieces, count, offset);
}

ssize_t pwritev64(int fd, const struct iovec *pieces, int count, off64_t offset)
{
    REAL(pwritev64);
    if (fails(fd))
        return half() ? real(fd, pieces, 1, offset) : -1;
    return real(fd, pieces, count, offset);
}

ssize_t writev(int fd, const struct iovec *pieces, int count)
{
    REAL(writev);
    if (fails(fd))
        return half() ? real(fd, pieces, 1) : -1;
    return real(fd, pieces, count);
}

int fdatasync(int fd)
{
    REAL(fdatasync);
    return fails(fd) ? -1 : real(fd);
}

int fsync(int fd)
{
    REAL(fsync);
    return fails(fd) ? -1 : real(fd);
}
