/* thread -- threads that the collector knows.
 *
 * The collector stops a registered thread with a signal and scans its stack and registers, but
 * never thread-local storage; so each thread has a word in a collected structure that hangs on a
 * static list.
 *
 * A thread that shares its processor waits for its time slice, and a collection waits for the last
 * thread to stop. So ours ask for short time slices: the scheduler (Linux from 6.12) then lets them
 * in sooner, for as long a share as before.
 *
 * 1. A thread is on the list from before it runs until it is joined; so its argument and slot are
 * reachable. */
#include "gc/object.h"
#include "gc/types.h"
#include <ebb/assert.h>
#include <ebb/list.h>
#include <ebb/mem.h>
#include <ebb/thread.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>

struct ebb_thread {
    struct ebb_list link;
    pthread_t id;
    void (*run)(void *);
    void *arg;
    void *slot;
    char name[16];
};

static struct ebb_list threads = EBB_LIST_INIT(threads);
static pthread_mutex_t threads_lock = PTHREAD_MUTEX_INITIALIZER;
static void *main_slot;
static _Thread_local struct ebb_thread *self;

enum {
    TIME_SLICE_NS = 100 * 1000, /* the shortest that there is */
    STACK_BYTES =
        2 << 20, /* of address space: the system's default is eight, or what ulimit -s says */
    STACK_CLEARED = 16 << 10,
    LONG_COPY = 1 << 10, /* uses the registers that copies of that size and longer use */
};

/* The kernel's, first version; its header does not go together with libc's. */
struct sched_attributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

void ebbi_thread_time_slice(void) {
    struct sched_attributes attributes = {.size = sizeof attributes};
    if (syscall(SYS_sched_getattr, 0, &attributes, sizeof attributes, 0) != 0)
        return;
    attributes.runtime = TIME_SLICE_NS;
    /* Older kernels take no notice; where it is refused, all is as it was. */
    syscall(SYS_sched_setattr, 0, &attributes, 0);
}

static void *thread_main(void *arg) {
    struct ebb_thread *thread = arg;
    self = thread;
    ebbi_thread_time_slice();
    pthread_setname_np(pthread_self(), thread->name);
    thread->run(thread->arg);
    return NULL;
}

/* pthread_create says EAGAIN whatever is missing; whether there is room for a stack tells the rest.
 */
static const char *limit_of_threads(void) {
    void *stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (stack == MAP_FAILED)
        return "no memory for its stack: see ulimit -v and ulimit -d, LimitAS= and LimitDATA= of "
               "the service";
    munmap(stack, STACK_BYTES);
    return "see ulimit -u, LimitNPROC= and TasksMax= of the service";
}

enum ebb_err ebb_thread_start(struct ebb_thread **out, const char *name, void (*run)(void *),
                              void *arg) {
    struct ebb_thread *thread = ebb_new_sized(&ebbi_type_thread, sizeof *thread);
    thread->run = run;
    thread->arg = arg;
    strncpy(thread->name, name, sizeof thread->name - 1);
    pthread_mutex_lock(&threads_lock);
    ebb_list_append(&threads, &thread->link);
    pthread_mutex_unlock(&threads_lock);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    int refused = GC_pthread_create(&thread->id, &attributes, thread_main, thread);
    pthread_attr_destroy(&attributes);
    if (refused == 0) {
        *out = thread;
        return EBB_OK;
    }
    pthread_mutex_lock(&threads_lock);
    ebb_list_remove(&thread->link);
    pthread_mutex_unlock(&threads_lock);
    ebb_done(thread);
    return ebb_err_set(EBB_ERR_SYSTEM, "cannot start thread %s: %s; %s", name, strerror(refused),
                       limit_of_threads());
}

void ebb_thread_join(struct ebb_thread *thread) {
    if (thread == NULL)
        return;
    int refused = GC_pthread_join(thread->id, NULL);
    ebb_assert(refused == 0, "join %s: %s", thread->name, strerror(refused));
    pthread_mutex_lock(&threads_lock);
    ebb_list_remove(&thread->link);
    pthread_mutex_unlock(&threads_lock);
    ebb_done(thread);
}

void **ebb_thread_slot(void) {
    if (self)
        return &self->slot;
    return getpid() == gettid() && GC_thread_is_registered() ? &main_slot : NULL;
}

/* A copy too: what a long one leaves in vector registers stays until the next, and each signal
 * writes them to the stack. */
__attribute__((noinline)) void ebb_stack_clear(void) {
    char below[STACK_CLEARED];
    memset(below, 0, sizeof below);
    ebb_keep(below);
    size_t size = LONG_COPY;
    __asm__("" : "+r"(size)); /* libc's copy, not one that the compiler makes of a known size */
    memmove(below, below + size, size);
    ebb_keep(below);
}

struct sleep {
    void (*wait)(void *);
    void *arg;
};

static void *GC_CALLBACK asleep(void *arg) {
    struct sleep *sleep = arg;
    sleep->wait(sleep->arg);
    return NULL;
}

void ebb_thread_sleep(void (*wait)(void *), void *arg) {
    struct sleep sleep = {wait, arg};
    GC_do_blocking(asleep, &sleep);
}

void ebb_thread_register(void) {
    struct GC_stack_base base;
    GC_get_stack_base(&base);
    GC_register_my_thread(&base);
}

void ebb_thread_unregister(void) {
    GC_unregister_my_thread();
}
