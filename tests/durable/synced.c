/* Keeps beside each file of the store what a loss of power would leave of it: the file as it was
   at its last fsync, as FILE.synced; and one byte for each fsync in FILE.count. Loaded with LD_PRELOAD; STORE_FILE names the database. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void keep(int fd) {
  char link[64], path[4096], copy[4200], partial[4250], buffer[65536];
  const char *store = getenv("STORE_FILE");
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, path, sizeof path - 1), got;
  if (store == NULL || length < 0) return;
  path[length] = 0;
  if (strncmp(path, store, strlen(store)) != 0) return;
  snprintf(copy, sizeof copy, "%s.synced", path);
  snprintf(partial, sizeof partial, "%s.%d", copy, getpid());
  int to = open(partial, O_WRONLY | O_CREAT | O_TRUNC, 0600);
  /* By the same descriptor: closing another one of this file would drop the process's locks. */
  for (off_t at = 0; (got = pread(fd, buffer, sizeof buffer, at)) > 0; at += got)
    if (write(to, buffer, got) != got) abort();
  close(to);
  rename(partial, copy);
  snprintf(copy, sizeof copy, "%s.count", path);
  to = open(copy, O_WRONLY | O_CREAT | O_APPEND, 0600);
  if (write(to, "1", 1) != 1) abort();
  close(to);
}

int fdatasync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fdatasync");
  int result = real(fd);
  if (result == 0) keep(fd);
  return result;
}

int fsync(int fd) {
  int (*real)(int) = (int (*)(int))dlsym(RTLD_NEXT, "fsync");
  int result = real(fd);
  if (result == 0) keep(fd);
  return result;
}
