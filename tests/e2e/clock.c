/* Preloaded into a process it shifts the time of day by the microseconds that the file CLOCK_SHIFT holds, as they are at the moment. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static volatile long *shift;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("CLOCK_SHIFT");
    int file = path ? open(path, O_RDONLY) : -1;
    void *at = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(long), PROT_READ, MAP_SHARED, file, 0);
    shift = at == MAP_FAILED ? NULL : at;
}

int clock_gettime(clockid_t id, struct timespec *t) {
    long failed = syscall(SYS_clock_gettime, id, t);
    if (!failed && shift && id == CLOCK_REALTIME) {
        long long nanos = t->tv_sec * 1000000000LL + t->tv_nsec + *shift * 1000LL;
        t->tv_sec = nanos / 1000000000LL;
        t->tv_nsec = nanos % 1000000000LL;
    }
    return failed;
}
