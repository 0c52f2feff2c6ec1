/* loop_internal -- what the other files of this folder may know of a loop. */
#ifndef EBBI_LOOP_INTERNAL_H
#define EBBI_LOOP_INTERNAL_H

#include <ebb/loop.h>
#include <pthread.h>
#include <stdatomic.h>

struct event_base;

/* Owner: the loop. NULL once the loop is closed. */
struct event_base *ebbi_loop_base(struct ebb_loop *loop);

/* The eventfd that a write wakes the loop by, until the loop is closed. */
int ebbi_loop_wake(const struct ebb_loop *loop);

/* signal.c: calls what was raised since the last call; hears nothing more for the loop. */
void ebbi_signals_run(const struct ebb_loop *loop);
void ebbi_signals_end(const struct ebb_loop *loop);

/* library.c, for libevent's memory on this thread. How often it was refused so far. */
uint64_t ebbi_library_refused(void);
/* Sets aside what is taken by who accepts a connection and cannot bear to be refused. False: there
 * is none. */
bool ebbi_library_set_aside(void);
void ebbi_library_set_aside_end(void);
/* Refuses the next allocation. */
void ebbi_library_refuse_next(void);

/* The sentence after libevent could not add an event; error: errno, 0 when it did not say. */
enum ebb_err ebbi_watch_refused(int fd, int error);

/* Whether a loop gets on, for watchdog.c. */
struct ebbi_pulse {
    _Atomic bool taken, beating;
    _Atomic bool busy;           /* not waiting */
    _Atomic uint32_t iterations; /* of whichever loop has it */
    const char *name;
    pthread_t thread;
};
/* This thread's, while it runs a loop. */
extern _Thread_local struct ebbi_pulse *ebbi_pulse_now;
void ebbi_pulse_begin(const char *name);
void ebbi_pulse_end(void);

/* Called by whatever libevent calls: the loop no longer waits. */
static inline void ebbi_pulse_busy(void) {
    if (ebbi_pulse_now)
        atomic_store_explicit(&ebbi_pulse_now->busy, true, memory_order_relaxed);
}

/* The loop is about to wait: a new iteration. */
static inline void ebbi_pulse_iteration(void) {
    struct ebbi_pulse *pulse = ebbi_pulse_now;
    if (pulse == NULL)
        return;
    uint32_t iterations = atomic_load_explicit(&pulse->iterations, memory_order_relaxed);
    atomic_store_explicit(&pulse->iterations, iterations + 1, memory_order_relaxed);
    atomic_store_explicit(&pulse->busy, false, memory_order_relaxed);
}

#endif
