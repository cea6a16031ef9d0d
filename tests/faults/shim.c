/* Makes the K-th call that changes a file below a folder fail: loaded before the C library, so that
   it sees the calls of every library of the process.

   shim_arm(root, k, mode) begins to count; mode is one of those below. k = 0 only counts.
   shim_kinds() is a letter a call, of the kinds below. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { KILL = 1, FULL = 2, BROKEN = 3, SHORT = 4 };
static char root[PATH_MAX];
enum { WRITES = 'w', GROWS = 'g', SYNCS = 's', SHRINKS = 'd' };
static long at, mode, count;
static int armed;
static char kinds[1 << 16];

void shim_arm(const char *folder, long k, long how) {
  strncpy(root, folder, sizeof root - 1);
  at = k; mode = how; count = 0; armed = 1;
  memset(kinds, 0, sizeof kinds);
}
const char *shim_kinds(void) { return kinds; }

static int below(const char *path) {
  char full[PATH_MAX];
  if (!armed || !path) return 0;
  if (path[0] != '/') {
    if (!getcwd(full, sizeof full)) return 0;
    strncat(full, "/", sizeof full - strlen(full) - 1);
    strncat(full, path, sizeof full - strlen(full) - 1);
    path = full;
  }
  return strncmp(path, root, strlen(root)) == 0;
}
static int fd_below(int fd) {
  char link[64], path[PATH_MAX];
  if (!armed) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n <= 0) return 0;
  path[n] = 0;
  return strncmp(path, root, strlen(root)) == 0;
}
static int at_below(int dir, const char *path) {
  return path && path[0] != '/' && dir != AT_FDCWD ? fd_below(dir) : below(path);
}
/* 0: go on; an error number: fail; -1: write half of it. All but what shrinks need room. */
static int strikes(char kind) {
  long now = __sync_add_and_fetch(&count, 1);
  if (now < (long)sizeof kinds) kinds[now - 1] = kind;
  if (!at || now < at) return 0;
  if (now == at && mode == KILL) kill(getpid(), SIGKILL);
  if (now == at && mode == BROKEN) return EIO;
  if (mode == FULL && kind != SHRINKS) return ENOSPC;
  if (now == at && mode == SHORT) return -1;
  return 0;
}
#define REAL(name) static __typeof__(&name) real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define STRIKE(seen, kind) \
  if (seen) { int e = strikes(kind); if (e > 0) { errno = e; return -1; } }

#define OPEN(name)                                                      \
  int name(const char *path, int flags, ...) {                          \
    REAL(name);                                                         \
    mode_t m = 0;                                                       \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); m = va_arg(a, int); va_end(a); } \
    if (flags & (O_CREAT | O_TRUNC)) STRIKE(below(path), GROWS)             \
    return real(path, flags, m);                                        \
  }
OPEN(open)
OPEN(open64)
#define OPENAT(name)                                                    \
  int name(int dir, const char *path, int flags, ...) {                 \
    REAL(name);                                                         \
    mode_t m = 0;                                                       \
    if (flags & (O_CREAT | O_TMPFILE)) { va_list a; va_start(a, flags); m = va_arg(a, int); va_end(a); } \
    if (flags & (O_CREAT | O_TRUNC)) STRIKE(at_below(dir, path), GROWS)     \
    return real(dir, path, flags, m);                                   \
  }
OPENAT(openat)
OPENAT(openat64)

ssize_t write(int fd, const void *data, size_t size) {
  REAL(write);
  if (fd > 2 && fd_below(fd)) {
    int e = strikes(WRITES);
    if (e > 0) { errno = e; return -1; }
    if (e < 0 && size > 1) return real(fd, data, size / 2);
  }
  return real(fd, data, size);
}
#define PWRITE(name, offset)                                            \
  ssize_t name(int fd, const void *data, size_t size, offset where) {   \
    REAL(name);                                                         \
    if (fd_below(fd)) {                                                 \
      int e = strikes(WRITES);                                               \
      if (e > 0) { errno = e; return -1; }                              \
      if (e < 0 && size > 1) return real(fd, data, size / 2, where);    \
    }                                                                   \
    return real(fd, data, size, where);                                 \
  }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)
ssize_t writev(int fd, const struct iovec *parts, int n) {
  REAL(writev);
  if (fd > 2 && fd_below(fd)) {
    int e = strikes(WRITES);
    if (e > 0) { errno = e; return -1; }
    if (e < 0) return real(fd, parts, 1);
  }
  return real(fd, parts, n);
}
int fsync(int fd) { REAL(fsync); STRIKE(fd_below(fd), SYNCS) return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); STRIKE(fd_below(fd), SYNCS) return real(fd); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); STRIKE(fd_below(fd), SHRINKS) return real(fd, n); }
int rename(const char *a, const char *b) { REAL(rename); STRIKE(below(b), GROWS) return real(a, b); }
int renameat(int c, const char *a, int d, const char *b) {
  REAL(renameat); STRIKE(at_below(d, b), GROWS) return real(c, a, d, b);
}
int link(const char *a, const char *b) { REAL(link); STRIKE(below(b), GROWS) return real(a, b); }
int unlink(const char *path) { REAL(unlink); STRIKE(below(path), SHRINKS) return real(path); }
int unlinkat(int dir, const char *path, int flags) {
  REAL(unlinkat); STRIKE(at_below(dir, path), SHRINKS) return real(dir, path, flags);
}
int mkdir(const char *path, mode_t m) { REAL(mkdir); STRIKE(below(path), GROWS) return real(path, m); }
int mkdirat(int dir, const char *path, mode_t m) {
  REAL(mkdirat); STRIKE(at_below(dir, path), GROWS) return real(dir, path, m);
}
int rmdir(const char *path) { REAL(rmdir); STRIKE(below(path), SHRINKS) return real(path); }
