/* judge -- a round: the program stands still while it is copied, and the copy is judged.
 *
 * A timer's signal comes to some thread of the program. It stops the others, forks by system call,
 * and lets all go on. The copy closes the program's descriptors, marks from the roots, compares
 * with the round before (suspects.c), reports, and ends. The program has no thread of ours, and
 * waits for nothing; what is kept between rounds lies in memory that only the copies write.
 *
 * 1. The copy has exit signal 0: the program's wait does not see it; the next round reaps it.
 * 2. A round holds the heap lock from before the others stop until they go on; when it cannot have
 * it at once, it comes back in a millisecond. Rounds never overlap.
 * 3. The copy runs nothing of the program's: signals are blocked or at their defaults, descriptors
 * closed, no destructor runs. It gives up after JUDGE_SECONDS_MAX.
 * 4. A costly round makes rounds rarer: its processor time, or what a round that was given up
 * stood still, is at most a hundredth of the time. (A standstill counts what a busy machine gives
 * to others as well, a second now and then; that is no reason to look a minute later.) */
#include "heap.h"

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc/gc.h>
#include <gc/gc_mark.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define NS_PER_MS 1000000u
enum {
    JUDGE_SECONDS_MAX = 60,
    RETRY_MS = 1,
    COST_SHARE = 100,
    AGE_MS_MIN = 10000, /* of a process that reports when it ends, but for the first */
    NICENESS = 10,
    GIVEN_UP_TOLD = 3, /* rounds in a row */
};

static struct adopt_round round_now; /* what the program itself knows; the copy adds the rest */
static uint64_t cost_ns;             /* of the latest round */
static uint32_t given_up_in_a_row;
static pid_t copy;
static _Atomic bool is_over;
static bool is_program; /* what was started, no child of it */
static int timer = -1;

/* --- the copy --- */

static void default_action(int number) {
    const struct {
        void *handler;
        unsigned long flags;
        void *restorer;
        uint64_t mask;
    } action = {0};
    syscall(SYS_rt_sigaction, number, &action, NULL, sizeof action.mask);
}

static void stand_alone(void) {
    const struct rlimit none = {0};
    const uint64_t alarm_signal = 1ull << (SIGALRM - 1);
    syscall(SYS_close_range, 0u, ~0u, 0u);
    syscall(SYS_prlimit64, 0, RLIMIT_CORE, &none, NULL);
    syscall(SYS_setpriority, PRIO_PROCESS, 0, NICENESS);
    syscall(SYS_prctl, PR_SET_NAME, "ebb-judge", 0, 0, 0);
    default_action(SIGABRT);
    default_action(SIGALRM);
    syscall(SYS_alarm, JUDGE_SECONDS_MAX);
    syscall(SYS_rt_sigprocmask, SIG_UNBLOCK, &alarm_signal, NULL, sizeof alarm_signal);
}

static void end(void) {
    syscall(SYS_exit_group, 0);
}

static void tell_unjudged(enum adopt_unjudged why) {
    round_now.why = why;
    if (report_open()) {
        report_round(&round_now);
        report_end();
    }
}

static void push_roots(void) {
    if (!roots_push()) {
        round_now.given_up++;
        tell_unjudged(ADOPT_NO_MAPS);
        end();
    }
}

static void GC_CALLBACK on_event(GC_EventType event) {
    if (event != GC_EVENT_MARK_END)
        return;
    round_now.heap_bytes = GC_get_heap_size();
    suspects_round(&round_now);
    end();
}

static void mark(void *arg) {
    (void)arg;
    round_now.judged_ns = adopt_now_ns();
    GC_set_push_other_roots(push_roots);
    GC_set_on_collection_event(on_event);
    GC_enable();
    GC_gcollect();
    end();
}

/* --- the program --- */

static void arm(uint64_t ms) {
    const struct itimerspec when = {
        .it_value = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000 * NS_PER_MS)}};
    if (timer >= 0)
        syscall(SYS_timer_settime, timer, 0, &when, NULL);
}

static void arm_next(void) {
    uint64_t share = cost_ns * COST_SHARE / NS_PER_MS;
    arm(share > adopt_options.interval_ms ? share : adopt_options.interval_ms);
}

/* True when there is no copy any more. */
static bool reap(int how) {
    while (copy > 0) {
        long got = syscall(SYS_wait4, copy, NULL, __WALL | how, NULL);
        if (got == 0)
            return false;
        if (got < 0 && errno == EINTR)
            continue;
        copy = 0;
    }
    return true;
}

static void give_up(enum adopt_unjudged why) {
    round_now.why = why;
    round_now.given_up++;
    if (++given_up_in_a_row == GIVEN_UP_TOLD)
        tell_unjudged(why);
}

static void set_standstill(uint64_t since_ns) {
    round_now.standstill_ns = adopt_now_ns() - since_ns;
    if (round_now.standstill_ns > round_now.standstill_max_ns)
        round_now.standstill_max_ns = round_now.standstill_ns;
}

static uint64_t cpu_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The heap is locked. */
static void take_copy(void) {
    uint64_t begun_ns = adopt_now_ns(), begun_cpu_ns = cpu_ns();
    if (!stop_others()) {
        set_standstill(begun_ns);
        cost_ns = round_now.standstill_ns;
        give_up(ADOPT_NOT_STOPPED);
        return;
    }
    long child = syscall(SYS_clone, 0, 0, 0, 0, 0);
    if (child == 0) {
        stand_alone();
        heap_stack_clear();
        heap_stack_call(mark, NULL);
    }
    stop_end();
    set_standstill(begun_ns);
    cost_ns = cpu_ns() - begun_cpu_ns;
    if (child < 0) {
        give_up(ADOPT_NO_SNAPSHOT);
        return;
    }
    copy = (pid_t)child;
    round_now.number++;
    given_up_in_a_row = 0;
}

void judge_on_timer(void) {
    int error = errno;
    if (is_over)
        return;
    if (!heap_trylock()) {
        arm(RETRY_MS);
    } else {
        if (reap(WNOHANG)) {
            suspects_reclaim();
            take_copy();
        }
        heap_unlock();
        arm_next();
    }
    errno = error;
}

static void begin(void) {
    struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = adopt_signal()};
    round_now = (struct adopt_round){.started_ns = adopt_now_ns()};
    report_process(getpid());
    copy = 0;
    timer = -1;
    int made;
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &event, &made) == 0)
        timer = made;
    arm_next();
}

bool judge_start(void) {
    is_program = getppid() == adopt_options.parent;
    begin();
    return timer >= 0;
}

void judge_forked(void) {
    if (is_over)
        return;
    is_program = false;
    begin();
}

void judge_no_more(enum adopt_unjudged why) {
    if (atomic_exchange(&is_over, true) || timer < 0)
        return;
    heap_lock();
    arm(0);
    reap(0);
    tell_unjudged(why);
    heap_unlock();
}

/* Two rounds, the second of which tells. */
void judge_at_end(void) {
    bool is_old = adopt_now_ns() - round_now.started_ns >= (uint64_t)AGE_MS_MIN * NS_PER_MS;
    if (is_over || (!is_program && !is_old))
        return;
    arm(0);
    for (uint32_t i = 0; i < 2; i++) {
        round_now.at_end = i;
        heap_lock();
        if (reap(0)) {
            take_copy();
            reap(0);
        }
        heap_unlock();
    }
}
