/* sink -- a ring of lines between those who have something to say and a thread that writes it.
 *
 * A write to a pipe that nobody reads waits, and so does one to a disk that hangs; a worker must
 * not. So lines go into a ring of slots, each with a sequence number that says whose turn it is
 * (Vyukov's bounded queue): a line costs one compare-and-swap and a copy. A full ring drops the
 * line and counts it; the writer tells how many, once it gets on.
 *
 * 1. ebbi_sink_put never waits for anybody: not for the writer, not for another thread that was
 * stopped (by the collector, say) in the middle of its copy.
 * 2. The writer copies a slot out and frees it before it writes: a write that hangs holds none.
 * 3. The thread is not known to the collector: it touches static and mapped memory only, and is
 * never stopped.
 * 4. The descriptor never changes under a write: who wants another file puts it behind the same
 * number. */
#include "log.h"

#include "events.h"
#include "metrics.h"

#include <ebb/clock.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define SLOTS                 128
#define STOP_PATIENCE_SECONDS 2
#define STACK_BYTES           (256 << 10)

struct slot {
    _Atomic uint32_t turn; /* position at which it may be filled; one more: it may be taken */
    uint32_t length;
    char line[EBBI_LOG_LINE_MAX];
};
static struct slot *slots; /* SLOTS of them, from the log's start on */

static _Atomic uint32_t put_at;
static uint32_t take_at;
static sem_t filled;
static pthread_t writer;
static _Atomic bool running, ending, lost;
static _Atomic uint32_t dropped_untold;

static _Atomic int sink_fd = STDERR_FILENO;
static _Atomic bool is_cut; /* what was written last ends in the middle of a line */
static _Atomic int sink_form = EBB_LOG_TEXT;
static _Atomic int sink_coloured = -1; /* -1: not looked yet */

void ebb_log_fd_set(int fd) {
    atomic_store(&sink_coloured, isatty(fd));
    atomic_store(&is_cut, false);
    atomic_store(&sink_fd, fd);
}

void ebb_log_format_set(enum ebb_log_format format) {
    atomic_store(&sink_form, (int)format);
}

enum ebb_log_format ebbi_sink_format(bool *coloured) {
    int known = atomic_load_explicit(&sink_coloured, memory_order_relaxed);
    if (known < 0) {
        known = isatty(atomic_load(&sink_fd));
        atomic_store(&sink_coloured, known);
    }
    *coloured = known == 1;
    return (enum ebb_log_format)atomic_load_explicit(&sink_form, memory_order_relaxed);
}

static void count_dropped(struct ebb_metric *reason) {
    ebb_count(reason, 1);
    atomic_fetch_add(&dropped_untold, 1);
}

/* A line that was cut short is lost; the next one begins a line of its own all the same. */
static bool write_line(const char *line, size_t length) {
    bool cut = atomic_load_explicit(&is_cut, memory_order_relaxed);
    struct iovec parts[] = {{(void *)"\n", cut}, {(void *)line, length}};
    ssize_t written;
    do
        written = writev(atomic_load_explicit(&sink_fd, memory_order_relaxed), parts, 2);
    while (written < 0 && errno == EINTR);
    if (written > 0)
        atomic_store_explicit(&is_cut, written > cut && written < (ssize_t)length + cut,
                              memory_order_relaxed);
    if (written == (ssize_t)length + cut)
        return true;
    count_dropped(&ebb_metric_log_dropped_error);
    return false;
}

/* --- the ring --- */

static bool put(const char *line, size_t length) {
    uint32_t at = atomic_load_explicit(&put_at, memory_order_relaxed);
    for (;;) {
        struct slot *slot = &slots[at % SLOTS];
        int32_t ahead = (int32_t)(atomic_load_explicit(&slot->turn, memory_order_acquire) - at);
        if (ahead < 0)
            return false; /* still holds a line of the round before: full */
        if (ahead > 0)
            at = atomic_load_explicit(&put_at, memory_order_relaxed);
        else if (atomic_compare_exchange_weak(&put_at, &at, at + 1)) {
            memcpy(slot->line, line, length);
            slot->length = (uint32_t)length;
            atomic_store_explicit(&slot->turn, at + 1, memory_order_release);
            sem_post(&filled);
            return true;
        }
    }
}

/* Copies the next line out; 0: it is not there yet. */
static size_t take(char line[EBBI_LOG_LINE_MAX]) {
    struct slot *slot = &slots[take_at % SLOTS];
    if (atomic_load_explicit(&slot->turn, memory_order_acquire) != take_at + 1)
        return 0;
    size_t length = slot->length;
    memcpy(line, slot->line, length);
    atomic_store_explicit(&slot->turn, take_at + SLOTS, memory_order_release);
    take_at++;
    return length;
}

void ebbi_sink_put(const char *line, size_t length) {
    if (!atomic_load_explicit(&running, memory_order_acquire)) {
        if (!atomic_load(&lost))
            write_line(line, length);
    } else if (!put(line, length)) {
        count_dropped(&ebb_metric_log_dropped_full);
    }
}

/* --- the thread --- */

/* After a line that could be written: how many could not, before it. */
static void tell_dropped(void) {
    static char message[EBBI_LOG_MESSAGE_MAX], line[EBBI_LOG_LINE_MAX];
    uint32_t count = atomic_exchange(&dropped_untold, 0);
    if (count == 0)
        return;
    bool coloured;
    enum ebb_log_format form = ebbi_sink_format(&coloured);
    struct ebbi_log_entry entry = {.unix_ns = ebb_clock_unix_ns(),
                                   .level = ebb_event_log_dropped.level,
                                   .module = ebb_event_log_dropped.module,
                                   .service = "ebb",
                                   .event = &ebb_event_log_dropped,
                                   .message = message};
    ebbi_log_fill_with(&entry, message, sizeof(message), ebb_event_log_dropped.format, count);
    if (!write_line(line, ebbi_log_line(&entry, form, coloured, line, sizeof(line))))
        atomic_fetch_add(&dropped_untold, count);
}

static void *run(void *arg) {
    static char line[EBBI_LOG_LINE_MAX];
    (void)arg;
    pthread_setname_np(pthread_self(), "log");
    for (;;) {
        while (sem_wait(&filled) != 0)
            ;
        size_t length;
        while ((length = take(line)) > 0)
            if (write_line(line, length))
                tell_dropped();
        if (atomic_load(&ending))
            return NULL;
    }
}

/* Mapped, once: in the program it would keep this from being loaded where data is bounded. Without
 * it each line is written by who has it to say. */
static bool slots_make(void) {
    if (slots)
        return true;
    void *at = mmap(NULL, SLOTS * sizeof *slots, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    slots = at == MAP_FAILED ? NULL : at;
    return slots != NULL;
}

void ebb_log_start(void) {
    if (atomic_load(&running) || !slots_make())
        return;
    for (uint32_t i = 0; i < SLOTS; i++)
        atomic_store(&slots[i].turn, i);
    atomic_store(&put_at, 0);
    take_at = 0;
    atomic_store(&ending, false);
    sem_init(&filled, 0, 0);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* signals are for the threads that expect them */
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    if (pthread_create(&writer, &attributes, run, NULL) == 0)
        atomic_store_explicit(&running, true, memory_order_release);
    pthread_attr_destroy(&attributes);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void ebb_log_stop(void) {
    if (!atomic_load(&running))
        return;
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += STOP_PATIENCE_SECONDS;
    atomic_store(&ending, true);
    sem_post(&filled);
    if (pthread_clockjoin_np(writer, NULL, CLOCK_MONOTONIC, &until) != 0)
        atomic_store(&lost, true); /* whoever reads the log stands still: we do not */
    atomic_store(&running, false);
}
