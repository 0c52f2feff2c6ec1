/* watchdog -- finds the loop that stands still, and where.
 *
 * A loop has a pulse: the number of its iterations, and whether it is in one (it is from the first
 * callback until it waits again). No clock is read for it. The watchdog looks a few times within
 * the time that counts as a stall: the same iteration each time, and busy each time, is a stall.
 * Then it sends the thread a signal, whose handler walks the stack that it interrupted.
 *
 * 1. A pulse is static memory and belongs to one thread at a time; it holds no pointer that the
 * collector cares for.
 * 2. The handler allocates nothing: the unwinder is loaded before, and its answer goes into static
 * memory, for one thread at a time.
 * 3. The watchdog comes out of its sleep only after a collection that runs, so a pause is no stall;
 * and asleep it need not be stopped. */
#include <ebb/watchdog.h>

#include "gc/types.h"
#include "loop_internal.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"

#include <ebb/clock.h>
#include <ebb/leak.h>
#include <ebb/mem.h>
#include <ebb/thread.h>
#include <errno.h>
#include <execinfo.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <string.h>
#include <time.h>

/* An ordinary one: those that come meanwhile are one. Nobody's timer: virtual time is no daemon's.
 */
#define SIGNAL_STACK      SIGVTALRM
#define PULSES_MAX        64
#define LOOKS             4 /* within the time that counts as a stall */
#define STACK_FRAMES      12
#define STACK_SKIP        2 /* the handler, and what the kernel returns to after it */
#define STACK_TEXT_MAX    1024
#define STACK_PATIENCE_MS 200

struct ebb_watchdog {
    struct ebb_thread *thread;
    sem_t stop;
    uint64_t stall_ns, look_ns;
};

static struct ebbi_pulse pulses[PULSES_MAX];
_Thread_local struct ebbi_pulse *ebbi_pulse_now;

static sem_t stack_taken;
static void *stack_frames[STACK_FRAMES];
static _Atomic int stack_count;

/* --- pulses --- */

void ebbi_pulse_begin(const char *name) {
    for (int i = 0; i < PULSES_MAX; i++) {
        bool expected = false;
        if (!atomic_compare_exchange_strong(&pulses[i].taken, &expected, true))
            continue;
        pulses[i].name = name;
        pulses[i].thread = pthread_self();
        atomic_store(&pulses[i].busy, false);
        atomic_store(&pulses[i].beating, true);
        ebbi_pulse_now = &pulses[i];
        return;
    }
}

void ebbi_pulse_end(void) {
    if (ebbi_pulse_now == NULL)
        return;
    atomic_store(&ebbi_pulse_now->beating, false);
    atomic_store(&ebbi_pulse_now->taken, false);
    ebbi_pulse_now = NULL;
}

/* --- the stack of another thread --- */

static void on_signal(int number) {
    (void)number;
    int before = errno;
    atomic_store(&stack_count, backtrace(stack_frames, STACK_FRAMES));
    sem_post(&stack_taken);
    errno = before;
}

static bool wait_for(sem_t *semaphore, uint64_t ns) {
    uint64_t until_ns = ebb_clock_ns() + ns;
    struct timespec until = {.tv_sec = (time_t)(until_ns / EBB_NS_PER_SECOND),
                             .tv_nsec = (long)(until_ns % EBB_NS_PER_SECOND)};
    int failed;
    while ((failed = sem_clockwait(semaphore, CLOCK_MONOTONIC, &until)) != 0 && errno == EINTR)
        ;
    return failed == 0;
}

static void describe_stack(pthread_t thread, char *text, size_t size) {
    static struct ebb_site site;
    memset(site.frame, 0, sizeof(site.frame));
    if (pthread_kill(thread, SIGNAL_STACK) == 0 &&
        wait_for(&stack_taken, STACK_PATIENCE_MS * EBB_NS_PER_MS))
        for (int i = STACK_SKIP; i < atomic_load(&stack_count); i++)
            site.frame[i - STACK_SKIP] = (uintptr_t)stack_frames[i];
    ebb_site_describe(&site, STACK_FRAMES, text, size);
}

/* --- looking --- */

/* What the watchdog remembers of a pulse. */
struct seen {
    uint32_t iterations;
    bool busy, stalled;
    uint64_t since_ns;
};

static void tell_stall(const struct ebbi_pulse *pulse, uint64_t ns) {
    char stack[STACK_TEXT_MAX];
    ebb_count(&ebb_metric_loop_stalls, 1);
    describe_stack(pulse->thread, stack, sizeof(stack));
    ebb_log_event(loop_stalled, pulse->name, ns / EBB_NS_PER_MS, stack);
}

struct nap {
    sem_t *stop;
    uint64_t ns;
    bool stopped;
};

static void nap(void *arg) {
    struct nap *nap = arg;
    nap->stopped = wait_for(nap->stop, nap->ns);
}

/* Returns whether it is over. */
static bool sleep_until_next_look(struct ebb_watchdog *watchdog) {
    struct nap one = {&watchdog->stop, watchdog->look_ns, false};
    ebb_thread_sleep(nap, &one);
    return one.stopped;
}

/* Returns whether this loop stands still. */
static bool look(struct ebbi_pulse *pulse, struct seen *seen, uint64_t stall_ns) {
    uint64_t now = ebb_clock_ns();
    uint32_t iterations = atomic_load_explicit(&pulse->iterations, memory_order_relaxed);
    bool busy =
        atomic_load(&pulse->beating) && atomic_load_explicit(&pulse->busy, memory_order_relaxed);
    if (busy && seen->busy && iterations == seen->iterations) {
        if (!seen->stalled && now - seen->since_ns >= stall_ns) {
            seen->stalled = true;
            tell_stall(pulse, now - seen->since_ns);
        }
        return seen->stalled;
    }
    if (seen->stalled)
        ebb_log_event(loop_goes_on, pulse->name, (now - seen->since_ns) / EBB_NS_PER_MS);
    *seen = (struct seen){.iterations = iterations, .busy = busy, .since_ns = now};
    return false;
}

static void run(void *arg) {
    struct ebb_watchdog *watchdog = arg;
    struct seen seen[PULSES_MAX] = {{0}};
    while (!sleep_until_next_look(watchdog)) {
        int stalled = 0;
        for (int i = 0; i < PULSES_MAX; i++)
            stalled += look(&pulses[i], &seen[i], watchdog->stall_ns);
        ebb_gauge_set(&ebb_metric_loops_stalled, stalled);
    }
    ebb_gauge_set(&ebb_metric_loops_stalled, 0);
}

enum ebb_err ebb_watchdog_start(struct ebb_watchdog **out, uint64_t stall_ms) {
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART};
    void *first[1];
    backtrace(first, 1); /* the first call loads the unwinder */
    sem_init(&stack_taken, 0, 0);
    sigaction(SIGNAL_STACK, &action, NULL);
    struct ebb_watchdog *watchdog = ebb_new_sized(&ebbi_type_watchdog, sizeof(*watchdog));
    sem_init(&watchdog->stop, 0, 0);
    watchdog->stall_ns = stall_ms * EBB_NS_PER_MS;
    watchdog->look_ns = watchdog->stall_ns / LOOKS;
    enum ebb_err error = ebb_thread_start(&watchdog->thread, "watchdog", run, watchdog);
    if (error) {
        ebb_done(watchdog);
        return error;
    }
    *out = watchdog;
    return EBB_OK;
}

void ebb_watchdog_stop(struct ebb_watchdog *watchdog) {
    if (watchdog == NULL)
        return;
    sem_post(&watchdog->stop);
    ebb_thread_join(watchdog->thread);
    ebb_done(watchdog);
}
