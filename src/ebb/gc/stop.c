/* stop -- the two signals by which the collector stops and restarts threads.
 *
 * Not the library's own choice: service managers and containers send SIGPWR, a soft limit of
 * processor time sends SIGXCPU. Nor real-time signals: the kernel queues these, at most
 * RLIMIT_SIGPENDING for a user, and refuses further ones (EAGAIN), whoever has the others pending;
 * the library then aborts the process. An ordinary signal is never refused. SIGSTKFLT is one that
 * Linux never sends, and SIGURG one that every program has to expect and that is ignored by
 * default; Go's runtime takes it for the same reason.
 *
 * 1. A stop signal that nobody of ours sent is ignored: its thread would wait for ever. Where the
 * kernel had no room for the sender it arrives without one, and counts as ours.
 * 2. A restart signal does nothing but end a wait, so it may come from anywhere. */
#include "gc/object.h"
#include <ebb/thread.h>
#include <signal.h>
#include <unistd.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>

static void (*stop)(int number, siginfo_t *info, void *context);

static void on_stop(int number, siginfo_t *info, void *context) {
    bool no_sender = info->si_code == SI_USER && info->si_pid == 0;
    if (no_sender || (info->si_code == SI_TKILL && info->si_pid == getpid()))
        stop(number, info, context);
}

void ebbi_stop_signals_choose(void) {
    GC_set_suspend_signal(SIGSTKFLT);
    GC_set_thr_restart_signal(SIGURG);
}

void ebbi_stop_signals_guard(void) {
    struct sigaction action;
    int number = GC_get_suspend_signal();
    if (sigaction(number, NULL, &action) != 0 || !(action.sa_flags & SA_SIGINFO))
        return;
    stop = action.sa_sigaction;
    action.sa_sigaction = on_stop;
    sigaction(number, &action, NULL);
}

bool ebb_signal_is_collectors(int number) {
    return number == GC_get_suspend_signal() || number == GC_get_thr_restart_signal();
}
