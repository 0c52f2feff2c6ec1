/* signal -- signals that a loop hears.
 *
 * The handler sets the signal's bit and wakes the loop, which takes the bit and calls the function.
 * However many signals of a kind come meanwhile, they ask for one thing once: libevent counts them
 * and calls as often, and ten thousand SIGUSR1 were ten thousand censuses in the log.
 *
 * 1. Of each kind at most one action is pending. The end (SIGTERM, then SIGINT) goes first, the
 * others in the order of their numbers.
 * 2. The handler uses nothing but atomics and write(2); it may run on any thread.
 * 3. A forked child has no loop. Its signals would wake the parent's, through the eventfd that both
 * have, so there they do what they did before anybody asked. Until that is so they wait. */
#include <ebb/loop.h>

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

#include <ebb/assert.h>
#include <ebb/mem.h>
#include <ebb/thread.h>

#include "gc/types.h"
#include "loop_internal.h"

struct ebb_signal {
    int number;
    struct sigaction before;
    void (*fn)(void *arg);
    void *arg;
};

/* By number. Static: it holds what is heard. */
static struct {
    _Atomic(struct ebb_loop *) loop; /* NULL: nobody hears it */
    struct ebb_signal *signal;
    _Atomic int wake; /* the loop's descriptor */
} heard[NSIG];
static _Atomic uint64_t raised, ever_heard; /* a bit for each number */
static _Thread_local sigset_t before_fork;

static uint64_t bit_of(int number) {
    return UINT64_C(1) << (number - 1);
}

static void handler(int number) {
    int error = errno;
    uint64_t one = 1;
    atomic_fetch_or(&raised, bit_of(number));
    ssize_t ignored =
        write(atomic_load(&heard[number].wake), &one, sizeof one); /* or it is awake */
    (void)ignored;
    errno = error;
}

static void run_one(const struct ebb_loop *loop, int number) {
    if (atomic_load(&heard[number].loop) != loop ||
        !(atomic_fetch_and(&raised, ~bit_of(number)) & bit_of(number)))
        return;
    ebbi_pulse_busy();
    struct ebb_signal *sig = heard[number].signal;
    sig->fn(sig->arg);
}

void ebbi_signals_run(const struct ebb_loop *loop) {
    if (atomic_load_explicit(&raised, memory_order_relaxed) == 0)
        return;
    run_one(loop, SIGTERM);
    run_one(loop, SIGINT);
    for (int number = 1; number < NSIG; number++)
        run_one(loop, number);
}

static void hear_no_more(int number) {
    sigaction(number, &heard[number].signal->before, NULL);
    atomic_store(&heard[number].loop, NULL);
    heard[number].signal = NULL;
    atomic_fetch_and(&raised, ~bit_of(number));
}

void ebbi_signals_end(const struct ebb_loop *loop) {
    for (int number = 1; number < NSIG; number++)
        if (atomic_load(&heard[number].loop) == loop)
            hear_no_more(number);
}

__attribute__((noinline)) enum ebb_err ebb_signal_open(struct ebb_signal **out,
                                                       struct ebb_loop *loop, int number,
                                                       void (*fn)(void *), void *arg) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART};
    ebb_assert(!ebb_signal_is_collectors(number), "signal %d is the collector's", number);
    ebb_assert(number > 0 && number < NSIG && heard[number].signal == NULL,
               "signal %d is heard already, or is none", number);
    *out = NULL;
    struct ebb_signal *sig = ebb_new_sized(&ebbi_type_signal, sizeof *sig);
    *sig = (struct ebb_signal){.number = number, .fn = fn, .arg = arg};
    heard[number].signal = sig;
    atomic_store(&heard[number].wake, ebbi_loop_wake(loop));
    atomic_store(&heard[number].loop, loop);
    atomic_fetch_or(&ever_heard, bit_of(number));
    if (sigaction(number, &action, &sig->before) == 0) {
        *out = sig;
        return EBB_OK;
    }
    atomic_store(&heard[number].loop, NULL);
    heard[number].signal = NULL;
    ebb_done(sig);
    return ebb_err_set(EBB_ERR_SYSTEM, "cannot hear signal %d: %s", number, strerror(errno));
}

/* After its loop it is heard no more already. */
void ebb_signal_close(struct ebb_signal *sig) {
    if (sig == NULL)
        return;
    if (heard[sig->number].signal == sig)
        hear_no_more(sig->number);
    ebb_done(sig);
}

/* --- forks --- */

static bool was_heard(int number) {
    return atomic_load(&ever_heard) & bit_of(number);
}

static void signals_wait(void) {
    sigset_t ours;
    sigemptyset(&ours);
    for (int number = 1; number < NSIG; number++)
        if (was_heard(number))
            sigaddset(&ours, number);
    pthread_sigmask(SIG_BLOCK, &ours, &before_fork);
}

static void signals_go_on(void) {
    pthread_sigmask(SIG_SETMASK, &before_fork, NULL);
}

static void hear_nothing(void) {
    for (int number = 1; number < NSIG; number++)
        if (was_heard(number))
            signal(number, SIG_DFL);
    signals_go_on();
}

__attribute__((constructor)) static void signals_survive_fork(void) {
    pthread_atfork(signals_wait, signals_go_on, hear_nothing);
}
