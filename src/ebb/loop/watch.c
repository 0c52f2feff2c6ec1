/* watch -- what a loop waits for: descriptors, timers, signals.
 *
 * libevent's struct event lies inside our own object, so that opening a watch is one allocation.
 * libevent keeps a pointer to it in scanned memory for as long as it is added; that holds the
 * object and, through it, the argument. Who drops a paused watch without closing it has leaked it,
 * and is told so.
 *
 * 1. An event is in libevent only while its loop has a base; closing after the loop is harmless.
 * 2. The descriptor is pinned while its function runs: closing it meanwhile, from anywhere, takes
 * effect after. */
#include <ebb/loop.h>

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

#include <ebb/assert.h>
#include <ebb/clock.h>
#include <ebb/mem.h>
#include <ebb/thread.h>

#include "gc/types.h"
#include "loop_internal.h"
#include "tell/events.h"
#include "tell/metrics.h"

struct ebb_watch {
    struct event event;
    struct ebb_loop *loop;
    ebb_fd handle;
    int events;
    void (*fn)(int events, void *arg);
    void *arg;
};

struct ebb_timer {
    struct event event;
    struct ebb_loop *loop;
    uint64_t due_ns; /* of one that does not repeat */
    void (*fn)(void *arg);
    void *arg;
};

struct ebb_signal {
    struct event event;
    struct ebb_loop *loop;
    void (*fn)(void *arg);
    void *arg;
};

static void event_start(struct event *event, const struct timeval *after) {
    int refused = event_add(event, after);
    ebb_assert(refused == 0, "libevent cannot add descriptor or signal %d",
               (int)event_get_fd(event));
}

/* After its loop is closed the base is gone, and libevent has let go of the event by itself. */
static void event_stop(struct ebb_loop *loop, struct event *event) {
    if (ebbi_loop_base(loop) != NULL)
        event_del(event);
}

static void on_ready(evutil_socket_t fd, short what, void *arg) {
    ebbi_pulse_busy();
    (void)fd;
    struct ebb_watch *watch = arg;
    int events = ((what & EV_READ) ? EBB_READ : 0) | ((what & EV_WRITE) ? EBB_WRITE : 0);
    ebb_fd handle = watch->handle; /* the watch itself may be closed by what it calls */
    if (ebb_fd_pin(handle) < 0)
        return; /* closed by another thread a moment ago */
    watch->fn(events, watch->arg);
    ebb_fd_unpin(handle);
}

static void watch_start(struct ebb_watch *watch) {
    if (watch->events == 0)
        return;
    int fd = ebb_fd_get(watch->handle);
    ebb_assert(fd >= 0, "the descriptor of this watch (entry %u, generation %u) is closed",
               watch->handle.index, watch->handle.generation);
    short what = (short)(EV_PERSIST | ((watch->events & EBB_READ) ? EV_READ : 0) |
                         ((watch->events & EBB_WRITE) ? EV_WRITE : 0));
    event_assign(&watch->event, ebbi_loop_base(watch->loop), fd, what, on_ready, watch);
    event_start(&watch->event, NULL);
}

static void watch_stop(struct ebb_watch *watch) {
    if (watch->events == 0)
        return;
    if (ebb_fd_get(watch->handle) < 0) {
        ebb_count(&ebb_metric_stale_handles, 1);
        ebb_tell(watch_too_late, watch->handle.index);
    }
    event_stop(watch->loop, &watch->event);
}

__attribute__((noinline)) struct ebb_watch *ebb_watch_open(struct ebb_loop *loop, ebb_fd handle,
                                                           int events, void (*fn)(int, void *),
                                                           void *arg) {
    struct ebb_watch *watch = ebb_new_sized(&ebb_type_watch, sizeof *watch);
    watch->loop = loop;
    watch->handle = handle;
    watch->events = events;
    watch->fn = fn;
    watch->arg = arg;
    watch_start(watch);
    return watch;
}

void ebb_watch_set(struct ebb_watch *watch, int events) {
    if (watch->events == events)
        return;
    watch_stop(watch);
    watch->events = events;
    watch_start(watch);
}

void ebb_watch_close(struct ebb_watch *watch) {
    if (watch == NULL)
        return;
    watch_stop(watch);
    watch->events = 0;
    ebb_done(watch);
}

static struct timeval interval_of(uint64_t ns) {
    uint64_t us = (ns + 999) / 1000;
    return (struct timeval){.tv_sec = (time_t)(us / 1000000),
                            .tv_usec = (suseconds_t)(us % 1000000)};
}

/* libevent's clock is the coarse one, some milliseconds behind. */
static void on_time(evutil_socket_t fd, short what, void *arg) {
    ebbi_pulse_busy();
    (void)fd, (void)what;
    struct ebb_timer *timer = arg;
    uint64_t now_ns = ebb_clock_ns();
    if (now_ns < timer->due_ns) {
        struct timeval rest = interval_of(timer->due_ns - now_ns);
        event_start(&timer->event, &rest);
    } else {
        timer->fn(timer->arg);
    }
}

__attribute__((noinline)) struct ebb_timer *
ebb_timer_open(struct ebb_loop *loop, uint64_t ms, bool repeat, void (*fn)(void *), void *arg) {
    struct ebb_timer *timer = ebb_new_sized(&ebb_type_timer, sizeof *timer);
    timer->loop = loop;
    timer->fn = fn;
    timer->arg = arg;
    struct timeval after = interval_of(ms * EBB_NS_PER_MS);
    if (!repeat)
        timer->due_ns = ebb_clock_ns() + ms * EBB_NS_PER_MS;
    event_assign(&timer->event, ebbi_loop_base(loop), -1, repeat ? EV_PERSIST : 0, on_time, timer);
    event_start(&timer->event, &after);
    return timer;
}

void ebb_timer_close(struct ebb_timer *timer) {
    if (timer == NULL)
        return;
    event_stop(timer->loop, &timer->event);
    ebb_done(timer);
}

/* A bit for each signal that a loop was ever asked to hear. A forked child has no loop: its signals
 * would be heard by the parent, through the pipe that both have, so there they do what they did
 * before anybody asked. Until that is so they wait. */
static _Atomic uint64_t heard;
static _Thread_local sigset_t before_fork;

static bool is_heard(int number) {
    return atomic_load(&heard) >> (number - 1) & 1;
}

static void signals_wait(void) {
    sigset_t ours;
    sigemptyset(&ours);
    for (int number = 1; number < NSIG; number++)
        if (is_heard(number))
            sigaddset(&ours, number);
    pthread_sigmask(SIG_BLOCK, &ours, &before_fork);
}

static void signals_go_on(void) {
    pthread_sigmask(SIG_SETMASK, &before_fork, NULL);
}

static void hear_nothing(void) {
    for (int number = 1; number < NSIG; number++)
        if (is_heard(number))
            signal(number, SIG_DFL);
    signals_go_on();
}

__attribute__((constructor)) static void signals_survive_fork(void) {
    pthread_atfork(signals_wait, signals_go_on, hear_nothing);
}

static void on_signal(evutil_socket_t number, short what, void *arg) {
    ebbi_pulse_busy();
    (void)number, (void)what;
    struct ebb_signal *sig = arg;
    sig->fn(sig->arg);
}

__attribute__((noinline)) struct ebb_signal *ebb_signal_open(struct ebb_loop *loop, int number,
                                                             void (*fn)(void *), void *arg) {
    ebb_assert(!ebb_signal_is_collectors(number), "signal %d is the collector's", number);
    struct ebb_signal *sig = ebb_new_sized(&ebb_type_signal, sizeof *sig);
    sig->loop = loop;
    sig->fn = fn;
    sig->arg = arg;
    atomic_fetch_or(&heard, UINT64_C(1) << (number - 1));
    event_assign(&sig->event, ebbi_loop_base(loop), number, EV_SIGNAL | EV_PERSIST, on_signal, sig);
    event_start(&sig->event, NULL);
    return sig;
}

void ebb_signal_close(struct ebb_signal *sig) {
    if (sig == NULL)
        return;
    event_stop(sig->loop, &sig->event);
    ebb_done(sig);
}
