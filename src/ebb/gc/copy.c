/* copy -- what every forked copy of the process does first.
 *
 * A copy looks at what it took over, and is nobody's loss: the kernel shall end it before it ends
 * the daemon, whose memory it holds twice in the end (each page that either of them writes to).
 *
 * 1. It keeps the descriptors that it was told to keep, under their numbers, and closes all else: a
 * connection which the daemon closes is closed then, and what the copied program still does by
 * habit (wake a loop) meets a closed descriptor.
 * 2. It gets no signal handler of ours, and is killed with its parent or when it takes too long. */
#include "gc/copy.h"
#include "gc/names.h"
#include <ebb/collector.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#define COPY_NICE 10

static void close_all_but(const int keep[COPY_KEEPS]) {
    unsigned from = 0;
    for (;;) {
        unsigned next = ~0U; /* the next one to keep */
        for (int i = 0; i < COPY_KEEPS; i++) {
            unsigned fd = (unsigned)keep[i];
            if (fd >= from && fd < next)
                next = fd;
        }
        if (next > from)
            close_range(from, next == ~0U ? next : next - 1, 0);
        if (next == ~0U)
            return;
        from = next + 1;
    }
}

/* Anybody may make himself more likely to be chosen. */
static void be_chosen_first(void) {
    static const char most[] = "1000";
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    ssize_t ignored = fd < 0 ? 0 : write(fd, most, sizeof most - 1);
    (void)ignored;
    if (fd >= 0)
        close(fd);
}

void ebbi_copy_begin(const int keep[COPY_KEEPS], unsigned seconds_max) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    be_chosen_first();
    signal(SIGALRM, SIG_DFL);
    alarm(seconds_max);
    ebbi_names_here();
    ebb_finalizers_notify(NULL);
    ebb_charge_room(NULL, 0); /* room was made before, and nothing shrinks here */
    close_all_but(keep);
    if (nice(COPY_NICE) < 0 && errno == EPERM)
        errno = 0;
}
