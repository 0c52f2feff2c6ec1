/* hide -- the program never notices our signal: it cannot block it, wait for it, or handle it, and
 * does not see it in its masks.
 *
 * One real-time signal serves both uses: from a timer it begins a round, from a thread of this
 * process it asks the receiver to stand still.
 *
 * 1. A function that is interposed here calls the C library's with our signal taken out of its
 * set. What the program asks for our signal itself is answered, and not done.
 * 2. The collector's library calls some of these too: its handlers are not wanted, its maps are no
 * roots. It is told from the program by the return address.
 * 3. The C library's functions are looked up at the start: see state.c. */
#include "heap.h"

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <unistd.h>

#define HIDDEN(row)                                                                                \
    row(sigaction) row(signal) row(sigwait) row(sigwaitinfo) row(sigtimedwait) row(signalfd)       \
        row(sigsuspend) row(ppoll) row(pselect) row(epoll_pwait) row(epoll_pwait2)                 \
            row(pthread_sigmask) row(pthread_attr_setsigmask_np) row(epoll_ctl)

static struct {
#define DECLARE(name) __typeof__(&name) name;
    HIDDEN(DECLARE)
} real;
static bool found;

static void find(void) {
    if (found)
        return;
#define FIND(name) real.name = (__typeof__(&name))dlsym(RTLD_NEXT, #name);
    HIDDEN(FIND)
    found = true;
}

int adopt_signal(void) {
    return SIGRTMAX - ADOPT_SIGNAL_FROM_LAST;
}

static void on_signal(int number, siginfo_t *info, void *context) {
    (void)number;
    int error = errno;
    if (info->si_code == SI_TKILL && info->si_pid == getpid())
        stop_here(context);
    else if (info->si_code == SI_TIMER && atomic_load(&adopt_state) == ADOPT_ON)
        judge_on_timer();
    errno = error;
}

void hide_start(void) {
    struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_RESTART};
    find();
    sigfillset(&action.sa_mask);
    real.sigaction(adopt_signal(), &action, NULL);
}

/* The set without our signal, in *room; NULL stays NULL. */
static const sigset_t *without(const sigset_t *set, sigset_t *room) {
    find();
    if (set == NULL)
        return NULL;
    *room = *set;
    sigdelset(room, adopt_signal());
    return room;
}

#define CALLER_IS_COLLECTOR() adopt_is_collector(__builtin_return_address(0))

/* --- handlers and masks --- */

ADOPT_EXPORT int sigaction(int number, const struct sigaction *action, struct sigaction *old) {
    struct sigaction changed;
    find();
    if (number == adopt_signal() || CALLER_IS_COLLECTOR()) {
        if (old)
            *old = (struct sigaction){.sa_handler = SIG_DFL};
        return 0;
    }
    if (action) {
        changed = *action;
        sigdelset(&changed.sa_mask, adopt_signal());
        action = &changed;
    }
    return real.sigaction(number, action, old);
}

ADOPT_EXPORT __sighandler_t signal(int number, __sighandler_t handler) {
    find();
    return number == adopt_signal() ? SIG_DFL : real.signal(number, handler);
}

ADOPT_EXPORT int pthread_sigmask(int how, const sigset_t *set, sigset_t *old) {
    sigset_t room;
    set = without(set, &room);
    return real.pthread_sigmask(how, set, old);
}

ADOPT_EXPORT int sigprocmask(int how, const sigset_t *set, sigset_t *old) {
    int error = pthread_sigmask(how, set, old);
    if (error == 0)
        return 0;
    errno = error;
    return -1;
}

ADOPT_EXPORT int pthread_attr_setsigmask_np(pthread_attr_t *attributes, const sigset_t *set) {
    sigset_t room;
    set = without(set, &room);
    return real.pthread_attr_setsigmask_np(attributes, set);
}

/* --- waiting --- */

ADOPT_EXPORT int sigwait(const sigset_t *set, int *number) {
    sigset_t room;
    set = without(set, &room);
    return real.sigwait(set, number);
}

ADOPT_EXPORT int sigwaitinfo(const sigset_t *set, siginfo_t *info) {
    sigset_t room;
    set = without(set, &room);
    return real.sigwaitinfo(set, info);
}

ADOPT_EXPORT int sigtimedwait(const sigset_t *set, siginfo_t *info, const struct timespec *most) {
    sigset_t room;
    set = without(set, &room);
    return real.sigtimedwait(set, info, most);
}

ADOPT_EXPORT int signalfd(int fd, const sigset_t *set, int flags) {
    sigset_t room;
    set = without(set, &room);
    return real.signalfd(fd, set, flags);
}

ADOPT_EXPORT int sigsuspend(const sigset_t *set) {
    sigset_t room;
    set = without(set, &room);
    return real.sigsuspend(set);
}

ADOPT_EXPORT int ppoll(struct pollfd *fds, nfds_t count, const struct timespec *most,
                       const sigset_t *set) {
    sigset_t room;
    set = without(set, &room);
    return real.ppoll(fds, count, most, set);
}

ADOPT_EXPORT int pselect(int count, fd_set *reads, fd_set *writes, fd_set *others,
                         const struct timespec *most, const sigset_t *set) {
    sigset_t room;
    set = without(set, &room);
    return real.pselect(count, reads, writes, others, most, set);
}

ADOPT_EXPORT int epoll_pwait(int epoll, struct epoll_event *events, int count, int most_ms,
                             const sigset_t *set) {
    sigset_t room;
    set = without(set, &room);
    return real.epoll_pwait(epoll, events, count, most_ms, set);
}

ADOPT_EXPORT int epoll_pwait2(int epoll, struct epoll_event *events, int count,
                              const struct timespec *most, const sigset_t *set) {
    sigset_t room;
    set = without(set, &room);
    return real.epoll_pwait2(epoll, events, count, most, set);
}

/* --- what else has to be known --- */

ADOPT_EXPORT int epoll_ctl(int epoll, int what, int fd, struct epoll_event *event) {
    find();
    if (what == EPOLL_CTL_DEL)
        roots_kernel_holds(epoll, fd, 0);
    else if (event)
        roots_kernel_holds(epoll, fd, event->data.u64);
    return real.epoll_ctl(epoll, what, fd, event);
}

ADOPT_EXPORT void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset) {
    long got = syscall(SYS_mmap, at, bytes, protection, flags, fd, offset);
    if (got != -1 && CALLER_IS_COLLECTOR())
        roots_exclude((uintptr_t)got,
                      ((uintptr_t)got + bytes + PAGE_BYTES - 1) & ~(uintptr_t)(PAGE_BYTES - 1));
    return (void *)got;
}

ADOPT_EXPORT void *mmap64(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
    __attribute__((alias("mmap")));
