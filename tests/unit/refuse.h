/* refuse -- this program's epoll_ctl, which refuses to watch when the test says so, as the system
 * does when the watches of a user are used up. For tests of libebb, which calls it through
 * libevent. */
#ifndef EBB_TEST_REFUSE_H
#define EBB_TEST_REFUSE_H

#include <errno.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <unistd.h>

/* So many calls that watch pass, then so many are refused. */
static _Atomic int refuse_after, refuse_count;

static inline void refuse_watches(int after, int count) {
    atomic_store(&refuse_after, after);
    atomic_store(&refuse_count, count);
}

static inline int refuse_this_one(void) {
    if (atomic_load(&refuse_count) == 0)
        return 0;
    if (atomic_load(&refuse_after) > 0) {
        atomic_fetch_sub(&refuse_after, 1);
        return 0;
    }
    atomic_fetch_sub(&refuse_count, 1);
    return 1;
}

int epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
    if (operation == EPOLL_CTL_ADD && refuse_this_one()) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, set, operation, fd, event);
}

#endif
