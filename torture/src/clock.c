/* A wall clock that can be moved while a program runs. Loaded before it (LD_PRELOAD), it adds a number of
   seconds, which stands in the file that TORTURE_JUMP names, to what the kernel says. Monotonic time is left
   alone. Every thread may ask at any time: the file is mapped, and the number is read whole. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const int64_t *jump;

__attribute__((constructor)) static void map_the_jump(void) {
    const char *path = getenv("TORTURE_JUMP");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    void *mapped = file < 0 ? MAP_FAILED : mmap(0, sizeof *jump, PROT_READ, MAP_SHARED, file, 0);
    if (mapped == MAP_FAILED) _exit(99);
    jump = mapped;
    close(file);
}

static int64_t off(void) { return jump ? __atomic_load_n(jump, __ATOMIC_RELAXED) : 0; }

int clock_gettime(clockid_t which, struct timespec *at) {
    int failed = (int)syscall(SYS_clock_gettime, which, at);
    if (!failed && (which == CLOCK_REALTIME || which == CLOCK_REALTIME_COARSE)) at->tv_sec += off();
    return failed;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    int failed = (int)syscall(SYS_gettimeofday, at, zone);
    if (!failed && at) at->tv_sec += off();
    return failed;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
