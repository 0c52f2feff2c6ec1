/* watch -- what a loop waits for: descriptors and timers.
 *
 * libevent's struct event lies inside our own object, so that opening a watch is one allocation.
 * libevent keeps a pointer to it in scanned memory for as long as it is added; that holds the
 * object and, through it, the argument. Who drops a paused watch without closing it has leaked it,
 * and is told so.
 *
 * 1. An event is in libevent only while its loop has a base; closing after the loop is harmless.
 * 2. The descriptor is pinned while its function runs: closing it meanwhile, from anywhere, takes
 * effect after.
 * 3. The system may refuse to watch one descriptor more (epoll_ctl: ENOSPC, since
 * fs.epoll.max_user_watches counts those of all processes of the user; ENOMEM). A watch that was
 * refused waits for nothing, as one that is paused. */
#include <ebb/loop.h>

#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <string.h>

#include <ebb/assert.h>
#include <ebb/clock.h>
#include <ebb/mem.h>

#include "gc/types.h"
#include "loop_internal.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"

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

enum ebb_err ebbi_watch_refused(int fd, int error) {
    if (error == ENOSPC)
        return ebb_err_set(EBB_ERR_LIMIT,
                           "cannot watch descriptor %d: this user's epoll watches are used up; "
                           "raise fs.epoll.max_user_watches",
                           fd);
    return ebb_err_set(EBB_ERR_SYSTEM, "cannot watch descriptor %d: %s", fd,
                       strerror(error ? error : ENOMEM));
}

static enum ebb_err event_start(struct event *event, const struct timeval *after) {
    errno = 0;
    if (event_add(event, after) == 0)
        return EBB_OK;
    return ebbi_watch_refused((int)event_get_fd(event), errno);
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

static enum ebb_err watch_start(struct ebb_watch *watch, int events) {
    watch->events = 0;
    if (events == 0)
        return EBB_OK;
    int fd = ebb_fd_get(watch->handle);
    ebb_assert(fd >= 0, "the descriptor of this watch (entry %u, generation %u) is closed",
               watch->handle.index, watch->handle.generation);
    short what = (short)(EV_PERSIST | ((events & EBB_READ) ? EV_READ : 0) |
                         ((events & EBB_WRITE) ? EV_WRITE : 0));
    event_assign(&watch->event, ebbi_loop_base(watch->loop), fd, what, on_ready, watch);
    enum ebb_err err = event_start(&watch->event, NULL);
    if (err == EBB_OK)
        watch->events = events;
    return err;
}

static void watch_stop(struct ebb_watch *watch) {
    if (watch->events == 0)
        return;
    if (ebb_fd_get(watch->handle) < 0) {
        ebb_count(&ebb_metric_stale_handles, 1);
        ebb_log_event(watch_too_late, watch->handle.index);
    }
    event_stop(watch->loop, &watch->event);
}

__attribute__((noinline)) enum ebb_err ebb_watch_open(struct ebb_watch **out, struct ebb_loop *loop,
                                                      ebb_fd handle, int events,
                                                      void (*fn)(int, void *), void *arg) {
    *out = NULL;
    struct ebb_watch *watch = ebb_try_sized(&ebbi_type_watch, sizeof *watch);
    if (watch == NULL)
        return ebb_err_set(EBB_ERR_LIMIT, "no memory to watch a descriptor");
    watch->loop = loop;
    watch->handle = handle;
    watch->fn = fn;
    watch->arg = arg;
    enum ebb_err err = watch_start(watch, events);
    if (err != EBB_OK) {
        ebb_done(watch);
        return err;
    }
    *out = watch;
    return EBB_OK;
}

enum ebb_err ebb_watch_set(struct ebb_watch *watch, int events) {
    if (watch->events == events)
        return EBB_OK;
    watch_stop(watch);
    return watch_start(watch, events);
}

void ebb_watch_pause(struct ebb_watch *watch) {
    watch_stop(watch);
    watch->events = 0;
}

void ebb_watch_close(struct ebb_watch *watch) {
    if (watch == NULL)
        return;
    ebb_watch_pause(watch);
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
    struct timeval rest = interval_of(now_ns < timer->due_ns ? timer->due_ns - now_ns : 0);
    if (now_ns >= timer->due_ns || event_start(&timer->event, &rest) != EBB_OK)
        timer->fn(timer->arg);
}

static enum ebb_err timer_start(struct ebb_timer *timer, struct ebb_loop *loop, uint64_t ms,
                                bool repeat, void (*fn)(void *), void *arg) {
    timer->loop = loop;
    timer->fn = fn;
    timer->arg = arg;
    struct timeval after = interval_of(ms * EBB_NS_PER_MS);
    if (!repeat)
        timer->due_ns = ebb_clock_ns() + ms * EBB_NS_PER_MS;
    event_assign(&timer->event, ebbi_loop_base(loop), -1, repeat ? EV_PERSIST : 0, on_time, timer);
    return event_start(&timer->event, &after);
}

__attribute__((noinline)) struct ebb_timer *
ebb_timer_open(struct ebb_loop *loop, uint64_t ms, bool repeat, void (*fn)(void *), void *arg) {
    struct ebb_timer *timer = ebb_new_sized(&ebbi_type_timer, sizeof *timer);
    enum ebb_err err = timer_start(timer, loop, ms, repeat, fn, arg);
    ebb_assert(err == EBB_OK, "no timer: %s", ebb_err_text());
    return timer;
}

__attribute__((noinline)) struct ebb_timer *
ebb_timer_try(struct ebb_loop *loop, uint64_t ms, bool repeat, void (*fn)(void *), void *arg) {
    struct ebb_timer *timer = ebb_try_sized(&ebbi_type_timer, sizeof *timer);
    if (timer == NULL || timer_start(timer, loop, ms, repeat, fn, arg) == EBB_OK)
        return timer;
    ebb_done(timer);
    return NULL;
}

void ebb_timer_close(struct ebb_timer *timer) {
    if (timer == NULL)
        return;
    event_stop(timer->loop, &timer->event);
    ebb_done(timer);
}
