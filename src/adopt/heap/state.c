/* state -- how a process comes to be adopted: its start, its threads, its forks, its end.
 *
 * The first call of malloc starts us, long before main. Until that is done, and for good when it
 * fails, memory comes from the C library: free tells the two kinds apart, so nothing is lost.
 *
 * 1. Nothing here may fail the program: what cannot be had leaves it with the C library's malloc.
 * 2. All functions of other libraries are looked up before ADOPT_ON: later, a lock of the dynamic
 * linker may be held by a thread that is stopped.
 * 3. The collector never collects in the program, and knows of none of its threads: it allocates,
 * under our lock, and marks in snapshots (judge.c). */
#include "heap.h"

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc/gc.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

_Atomic int adopt_state;
ADOPT_THREAD struct adopt_thread adopt_me;
struct adopt_options adopt_options;
static pthread_key_t end_key;

extern void *__libc_stack_end; /* the dynamic linker's */

uint64_t adopt_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

void *adopt_map(size_t bytes) {
    bytes = (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
    long at = syscall(SYS_mmap, 0, bytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == -1)
        return NULL;
    roots_exclude((uintptr_t)at, (uintptr_t)at + bytes);
    return (void *)at;
}

/* --- options --- */

static bool take_field(const char **text, char *out, size_t size) {
    const char *end = strchrnul(*text, ':');
    size_t length = (size_t)(end - *text);
    if (length == 0 || length >= size)
        return false;
    memcpy(out, *text, length);
    out[length] = '\0';
    *text = *end ? end + 1 : end;
    return true;
}

static bool read_options(void) {
    char interval[16], reclaim[16], parent[16];
    const char *text = getenv(ADOPT_VARIABLE);
    if (text == NULL || !take_field(&text, interval, sizeof interval) ||
        !take_field(&text, reclaim, sizeof reclaim) || !take_field(&text, parent, sizeof parent) ||
        !take_field(&text, adopt_options.token, sizeof adopt_options.token) ||
        !take_field(&text, adopt_options.socket, sizeof adopt_options.socket))
        return false;
    adopt_options.interval_ms = (uint32_t)strtoul(interval, NULL, 10);
    adopt_options.reclaim = (uint32_t)strtoul(reclaim, NULL, 10);
    adopt_options.parent = (pid_t)strtol(parent, NULL, 10);
    return adopt_options.interval_ms > 0;
}

/* --- threads --- */

/* Called last of all destructors of thread-specific data: the others may still free. */
static void on_thread_end(void *rounds) {
    if ((uintptr_t)rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
        pthread_setspecific(end_key, (char *)rounds + 1);
        return;
    }
    roots_stack_dead(adopt_me.stack_low, (uintptr_t)pthread_self());
    blocks_thread_end();
    adopt_me.known = false;
}

static void find_stack(void) {
    pthread_attr_t attributes;
    void *low;
    size_t bytes;
    if (getpid() == gettid()) { /* what pthread_getattr_np reads of it is /proc/self/maps */
        adopt_me.stack_high = (uintptr_t)__libc_stack_end;
        adopt_me.stack_low = adopt_me.stack_high - ((uintptr_t)1 << 30);
        return;
    }
    if (pthread_getattr_np(pthread_self(), &attributes) != 0)
        return;
    if (pthread_attr_getstack(&attributes, &low, &bytes) == 0) {
        adopt_me.stack_low = (uintptr_t)low;
        adopt_me.stack_high = (uintptr_t)low + bytes;
        roots_stack_alive(adopt_me.stack_low, adopt_me.stack_high);
        pthread_setspecific(end_key, (void *)1);
    }
    pthread_attr_destroy(&attributes);
}

void adopt_thread_start(void) {
    int error = errno;
    adopt_me.known = true;
    adopt_me.inside = true;
    adopt_me.serial = (uint32_t)gettid() << 12;
    /* The C library starts some of its own threads with every signal blocked. */
    uint64_t ours = 1ull << (adopt_signal() - 1);
    syscall(SYS_rt_sigprocmask, 1 /* SIG_UNBLOCK */, &ours, NULL, sizeof ours);
    find_stack();
    adopt_me.inside = false;
    errno = error;
}

/* --- forks --- */

static void before_fork(void) {
    heap_lock();
}

static void after_fork_in_parent(void) {
    heap_unlock();
}

static void after_fork_in_child(void) {
    heap_unlock();
    paths_forked();
    roots_all_stacks_dead_but(adopt_me.stack_low);
    suspects_forked();
    judge_forked();
}

/* --- start and end --- */

static void GC_CALLBACK on_warning(char *message, GC_word arg) {
    (void)message, (void)arg;
}

static void *GC_CALLBACK on_out_of_memory(size_t bytes) {
    (void)bytes;
    return NULL;
}

static void collector_start(void) {
    GC_set_all_interior_pointers(1);
    GC_set_handle_fork(0);
    GC_set_dont_precollect(1);
    GC_set_markers_count(1);
    GC_set_no_dls(1);
    GC_set_free_space_divisor(16);
    GC_set_warn_proc(on_warning);
    GC_set_oom_fn(on_out_of_memory);
    GC_set_suspend_signal(adopt_signal());
    GC_set_thr_restart_signal(adopt_signal() - 1);
    GC_init();
    GC_disable();
    GC_clear_roots();
}

static bool start(void) {
    if (!read_options())
        return false;
    hide_start();
    roots_start();
    if (!paths_start() || !blocks_start() || !suspects_start())
        return false;
    collector_start();
    if (pthread_key_create(&end_key, on_thread_end) != 0 ||
        pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child) != 0)
        return false;
    return true;
}

bool adopt_start(void) {
    int expected = ADOPT_OFF;
    if (!atomic_compare_exchange_strong(&adopt_state, &expected, ADOPT_STARTING))
        return expected == ADOPT_ON;
    adopt_me.inside = true;
    bool good = start();
    adopt_me.inside = false;
    atomic_store(&adopt_state, good ? ADOPT_ON : ADOPT_PLAIN);
    return good;
}

__attribute__((constructor)) static void on_load(void) {
    if (adopt_start() && !judge_start())
        atomic_store(&adopt_state, ADOPT_PLAIN); /* blocks of ours are freed as ours all the same */
}

__attribute__((destructor)) static void on_end(void) {
    if (atomic_load(&adopt_state) == ADOPT_ON)
        judge_at_end();
}
