/* loop -- iterations of one thread, on libevent.
 *
 * An iteration is: wait until something is ready, call whoever waits for it, then do what belongs
 * between iterations. One eventfd wakes a loop for everything that other threads want of it: posted
 * work, its end, finalizers.
 *
 * 1. libevent runs without locks: only the loop's thread touches the base. Other threads touch the
 * fields under `mutex` and the eventfd, nothing else.
 * 2. Nothing is allocated while `mutex` or `finalizing_mutex` is held: an allocation may collect,
 * and the collector may wake the loop that runs finalizers, which takes the mutex.
 * 3. After close `wake` is stale, which is looked up under `mutex`: a late post or wake does
 * nothing. `base` is NULL then.
 * 4. Posts run in the order in which they were posted; what is posted meanwhile waits for the next
 * iteration. */
#include <ebb/loop.h>

#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <ebb/assert.h>
#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/leak.h>
#include <ebb/log.h>
#include <ebb/mem.h>

#include "gc/reserve.h"
#include "gc/types.h"
#include "loop_internal.h"
#include "telemetry/metrics.h"

struct post {
    struct post *next;
    void (*fn)(void *);
    void (*drop)(void *); /* instead of fn, when it will not run; or NULL */
    void *arg;
};

struct ebb_loop {
    const char *name;
    struct event_base *base;
    struct ebb_scope *scope;
    struct ebb_watch *wake_watch;
    _Atomic uint64_t now_ns; /* 0: not asked for in this iteration */
    _Atomic bool stopping;
    bool runs_finalizers;

    pthread_mutex_t mutex;
    ebb_fd wake;
    bool woken; /* the eventfd was written and not yet read */
    _Atomic bool finalizers_ready;
    struct post *posts, *posts_last;
};

static pthread_mutex_t finalizing_mutex = PTHREAD_MUTEX_INITIALIZER;
static struct ebb_loop *finalizing; /* under finalizing_mutex */

const char *ebb_loop_libevent_version(void) {
    return event_get_version();
}

struct event_base *ebbi_loop_base(struct ebb_loop *loop) {
    return loop->base;
}

int ebbi_loop_wake(const struct ebb_loop *loop) {
    return ebb_fd_get(loop->wake);
}

/* Under the mutex. A write to the eventfd cannot fail: its counter is far from full. */
static void wake_locked(struct ebb_loop *loop) {
    int fd = ebb_fd_get(loop->wake);
    if (fd < 0 || loop->woken)
        return;
    uint64_t one = 1;
    loop->woken = write(fd, &one, sizeof one) == sizeof one;
}

static void wake(struct ebb_loop *loop) {
    pthread_mutex_lock(&loop->mutex);
    wake_locked(loop);
    pthread_mutex_unlock(&loop->mutex);
}

static void run_posts(struct ebb_loop *loop) {
    pthread_mutex_lock(&loop->mutex);
    struct post *post = loop->posts;
    loop->posts = loop->posts_last = NULL;
    pthread_mutex_unlock(&loop->mutex);
    for (; post != NULL; post = post->next)
        post->fn(post->arg);
}

static void on_wake(int events, void *arg) {
    (void)events;
    struct ebb_loop *loop = arg;
    uint64_t count;
    pthread_mutex_lock(&loop->mutex);
    ssize_t got = read(ebb_fd_get(loop->wake), &count, sizeof count);
    loop->woken = false;
    pthread_mutex_unlock(&loop->mutex);
    ebb_assert(got == sizeof count || errno == EAGAIN, "loop %s: eventfd: %s", loop->name,
               strerror(errno));
    ebbi_signals_run(loop);
    run_posts(loop);
}

static struct event_base *base_new(void) {
    struct event_config *config = event_config_new();
    if (config == NULL)
        return NULL;
    /* The environment must not choose the method: only epoll keeps up with many descriptors. And a
     * timer runs from when it is opened, not from when this iteration began. */
    event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV |
                                      EVENT_BASE_FLAG_NO_CACHE_TIME);
    struct event_base *base = event_base_new_with_config(config);
    event_config_free(config);
    return base;
}

enum ebb_err ebb_loop_new(struct ebb_loop **out, const char *name) {
    struct ebb_scope *scope = ebb_scope_new(name);
    ebb_fd wake_fd;
    enum ebb_err err = ebb_fd_eventfd(&wake_fd, scope, name);
    if (err != EBB_OK) {
        ebb_scope_close(scope);
        return err;
    }
    errno = 0;
    struct event_base *base = base_new();
    if (base == NULL) {
        int error = errno;
        ebb_scope_close(scope);
        return ebb_err_set(EBB_ERR_SYSTEM,
                           "cannot make the event loop %s: %s; is the descriptor limit "
                           "(`ulimit -n`) too low?",
                           name, error == 0 ? "libevent has no epoll" : strerror(error));
    }
    struct ebb_loop *loop = ebb_new_sized(&ebbi_type_loop, sizeof *loop);
    loop->name = name;
    loop->base = base;
    loop->scope = scope;
    loop->wake = wake_fd;
    pthread_mutex_init(&loop->mutex, NULL);
    err = ebb_watch_open(&loop->wake_watch, loop, wake_fd, EBB_READ, on_wake, loop);
    if (err != EBB_OK) {
        ebb_loop_close(loop);
        return err;
    }
    *out = loop;
    return EBB_OK;
}

static void between_iterations(struct ebb_loop *loop) {
    if (!loop->runs_finalizers)
        return;
    if (atomic_exchange(&loop->finalizers_ready, false))
        ebb_finalizers_run();
    ebb_leaks_tell();
    ebb_collector_tell();
    ebbi_reserve_tell();
}

void ebb_loop_run(struct ebb_loop *loop) {
    ebbi_pulse_begin(loop->name);
    while (!atomic_exchange(&loop->stopping, false)) {
        atomic_store_explicit(&loop->now_ns, 0, memory_order_relaxed);
        ebbi_pulse_iteration();
        int result = event_base_loop(loop->base, EVLOOP_ONCE);
        ebb_assert(result == 0, "loop %s: libevent cannot wait: %s", loop->name, strerror(errno));
        ebb_count(&ebb_metric_loop_iterations, 1);
        between_iterations(loop);
    }
    ebbi_pulse_end();
    run_posts(loop); /* what was posted before the stop is not lost */
    atomic_store_explicit(&loop->now_ns, 0, memory_order_relaxed);
}

void ebb_loop_stop(struct ebb_loop *loop) {
    atomic_store(&loop->stopping, true);
    wake(loop);
}

static void stop_finalizing(struct ebb_loop *loop) {
    pthread_mutex_lock(&finalizing_mutex);
    if (finalizing == loop)
        finalizing = NULL;
    pthread_mutex_unlock(&finalizing_mutex);
}

static void drop_posts(const struct post *post) {
    for (; post != NULL; post = post->next)
        if (post->drop)
            post->drop(post->arg);
}

void ebb_loop_close(struct ebb_loop *loop) {
    if (loop == NULL)
        return;
    if (loop->runs_finalizers)
        stop_finalizing(loop);
    ebbi_signals_end(loop);
    ebb_watch_close(loop->wake_watch);
    event_base_free(loop->base);
    loop->base = NULL;
    pthread_mutex_lock(&loop->mutex);
    const struct post *posts = loop->posts;
    loop->posts = loop->posts_last = NULL;
    ebb_fd_close(loop->wake);
    pthread_mutex_unlock(&loop->mutex);
    drop_posts(posts);
    ebb_scope_close(loop->scope);
    ebb_done_late(loop); /* a late post or wake finds that it is closed */
}

static void post_append(struct ebb_loop *loop, struct post *post) {
    pthread_mutex_lock(&loop->mutex);
    bool open = ebb_fd_get(loop->wake) >= 0;
    if (open && loop->posts_last != NULL)
        loop->posts_last->next = post;
    else if (open)
        loop->posts = post;
    if (open)
        loop->posts_last = post;
    wake_locked(loop);
    pthread_mutex_unlock(&loop->mutex);
    if (open)
        ebb_count(&ebb_metric_loop_posts, 1);
    else
        drop_posts(post);
}

void ebb_loop_post(struct ebb_loop *loop, void (*fn)(void *), void *arg) {
    ebb_loop_post_or_drop(loop, fn, NULL, arg);
}

void ebb_loop_post_or_drop(struct ebb_loop *loop, void (*fn)(void *), void (*drop)(void *),
                           void *arg) {
    struct post *post = ebb_new_sized(&ebbi_type_post, sizeof(struct post));
    *post = (struct post){.fn = fn, .drop = drop, .arg = arg};
    post_append(loop, post);
}

bool ebb_loop_post_try(struct ebb_loop *loop, void (*fn)(void *), void *arg) {
    struct post *post = ebb_try_sized(&ebbi_type_post, sizeof *post);
    if (post == NULL)
        return false;
    *post = (struct post){.fn = fn, .arg = arg};
    post_append(loop, post);
    return true;
}

/* Called by the collector on whatever thread allocates. */
static void wake_for_finalizers(void) {
    pthread_mutex_lock(&finalizing_mutex);
    if (finalizing != NULL) {
        atomic_store(&finalizing->finalizers_ready, true);
        wake(finalizing);
    }
    pthread_mutex_unlock(&finalizing_mutex);
}

void ebb_loop_finalize_here(struct ebb_loop *loop) {
    pthread_mutex_lock(&finalizing_mutex);
    ebb_assert(finalizing == NULL || finalizing == loop, "loop %s runs the finalizers already",
               finalizing->name);
    finalizing = loop;
    pthread_mutex_unlock(&finalizing_mutex);
    loop->runs_finalizers = true;
    ebb_finalizers_notify(wake_for_finalizers);
    wake_for_finalizers(); /* some may have become ready before anybody was told */
}

uint64_t ebb_loop_now_ns(const struct ebb_loop *loop) {
    _Atomic uint64_t *now = (_Atomic uint64_t *)&loop->now_ns; /* no loop is made const */
    uint64_t ns = atomic_load_explicit(now, memory_order_relaxed);
    if (ns == 0) {
        ns = ebb_clock_ns();
        atomic_store_explicit(now, ns, memory_order_relaxed);
    }
    return ns;
}
