/* stop -- all other threads of the process stand still, each at a known stack pointer.
 *
 * Each is sent our signal, waits in its handler, and goes on when it is told. Threads are taken
 * from /proc, so nobody hides: neither those of the C library nor those that a system call made.
 * The list is read until it has nobody new.
 *
 * 1. It is bounded: who has not come after STOP_NS_MAX makes the round void, and all go on. That
 * is a busy machine, a thread that blocks every signal, or one that waits for its vfork's child.
 * 2. Who comes too late finds that its generation is over, and does not wait.
 * 3. One thread stops the others at a time: it holds the heap lock. */
#include "heap.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define STOP_NS_MAX 100000000u
enum { THREADS_MAX = 4096, LIST_BYTES = 8192 };

static struct stopped stopped[THREADS_MAX + 1]; /* the first is who stops the others */
static pid_t asked[THREADS_MAX];
static uint32_t asked_count;
static _Atomic uint32_t arrived, generation, over; /* over: the latest generation that goes on */

uint32_t stopped_count(void) {
    uint32_t count = atomic_load(&arrived) + 1;
    return count > THREADS_MAX ? THREADS_MAX : count;
}

const struct stopped *stopped_at(uint32_t i) {
    return &stopped[i];
}

static void note(uint32_t slot, const void *context) {
    if (slot <= THREADS_MAX)
        stopped[slot] = (struct stopped){.thread = gettid(), .sp = (uintptr_t)context};
}

static bool is_before(uint32_t one, uint32_t other) {
    return (int32_t)(one - other) < 0;
}

void stop_here(const void *context) {
    uint32_t now = atomic_load(&generation), latest = atomic_load(&over);
    if (!is_before(latest, now))
        return;
    note(atomic_fetch_add(&arrived, 1) + 1, context);
    for (; is_before(latest, now); latest = atomic_load(&over))
        syscall(SYS_futex, &over, FUTEX_WAIT_PRIVATE, latest, NULL);
}

static bool was_asked(pid_t thread) {
    for (uint32_t i = 0; i < asked_count; i++)
        if (asked[i] == thread)
            return true;
    return false;
}

/* False: there is no room, or the signal cannot be sent. */
static bool ask(pid_t thread) {
    if (was_asked(thread))
        return true;
    if (asked_count == THREADS_MAX)
        return false;
    if (syscall(SYS_tgkill, getpid(), thread, adopt_signal()) != 0)
        return errno == ESRCH;
    asked[asked_count++] = thread;
    return true;
}

struct entry { /* of getdents64 */
    uint64_t inode;
    int64_t offset;
    unsigned short length;
    unsigned char type;
    char name[];
};

static pid_t number_of(const char *name) {
    pid_t number = 0;
    for (; *name >= '0' && *name <= '9'; name++)
        number = number * 10 + (*name - '0');
    return number;
}

/* Asks whoever is in the list and was not asked yet. */
static bool ask_all(int list) {
    static _Alignas(8) char entries[LIST_BYTES];
    pid_t self = gettid();
    lseek(list, 0, SEEK_SET);
    for (;;) {
        long got = syscall(SYS_getdents64, list, entries, sizeof entries);
        if (got <= 0)
            return got == 0;
        for (long at = 0; at < got;) {
            const struct entry *entry = (const void *)(entries + at);
            pid_t thread = number_of(entry->name);
            if (thread > 0 && thread != self && !ask(thread))
                return false;
            at += entry->length;
        }
    }
}

/* A thread that ended meanwhile never arrives. */
static void forget_the_ended(void) {
    uint32_t kept = 0;
    for (uint32_t i = 0; i < asked_count; i++)
        if (syscall(SYS_tgkill, getpid(), asked[i], 0) == 0)
            asked[kept++] = asked[i];
    asked_count = kept;
}

static bool wait_for_all(uint64_t until_ns) {
    const struct timespec moment = {.tv_nsec = 20000};
    for (int turn = 0; atomic_load(&arrived) < asked_count; turn++) {
        if (turn < 100) {
            sched_yield();
            continue;
        }
        if (adopt_now_ns() > until_ns)
            return false;
        nanosleep(&moment, NULL);
        if (turn % 16 == 0)
            forget_the_ended();
    }
    return true;
}

static bool stop_listed(int list) {
    uint64_t until_ns = adopt_now_ns() + STOP_NS_MAX;
    for (;;) {
        uint32_t before = asked_count;
        if (!ask_all(list))
            return false;
        if (asked_count == before)
            return true;
        if (!wait_for_all(until_ns))
            return false;
    }
}

bool stop_others(void) {
    int list = roots_open_proc("task");
    if (list < 0)
        return false;
    asked_count = 0;
    atomic_store(&arrived, 0);
    atomic_fetch_add(&generation, 1);
    note(0, __builtin_frame_address(0));
    bool all = stop_listed(list);
    close(list);
    if (!all)
        stop_end();
    return all;
}

void stop_end(void) {
    atomic_store(&over, atomic_load(&generation));
    syscall(SYS_futex, &over, FUTEX_WAKE_PRIVATE, THREADS_MAX);
}
