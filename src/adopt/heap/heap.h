/* heap -- what the parts of the adopting library share. See README.md for the idea.
 *
 * A block is described by one word: behind its bytes when it is small, in the page table when it is
 * large. A block without a valid word is free, or not ours. */
#ifndef ADOPT_HEAP_H
#define ADOPT_HEAP_H

#include "message.h"
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum {
    PAGE_BYTES = 4096,
    GRANULE_BYTES = 16,
    WORD_BYTES = 8,
    SMALL_CELL_MAX = 2032, /* of what the collector gives many at a time */
    SMALL_MAX = SMALL_CELL_MAX - WORD_BYTES,
    CLASSES = SMALL_CELL_MAX / GRANULE_BYTES + 1,
};

#define ADOPT_EXPORT __attribute__((visibility("default")))
#define ADOPT_THREAD _Thread_local __attribute__((tls_model("initial-exec")))

/* The word: magic 8 | serial 28 | site 16 | bytes unused at its end 12. The serial tells a block
 * from another that had its place. */
#define WORD_MAGIC          0xA7ull
#define WORD_SITE(word)     ((uint32_t)((word) >> 12) & 0xffff)
#define WORD_UNUSED(word)   ((uint32_t)(word)&0xfff)
#define WORD_IS_VALID(word) ((word) >> 56 == WORD_MAGIC)
static inline uint64_t word_make(uint32_t serial, uint32_t site, size_t unused) {
    return WORD_MAGIC << 56 | (uint64_t)(serial & 0xfffffff) << 28 |
           (uint64_t)(site & 0xffff) << 12 | (unused & 0xfff);
}

/* --- state.c: what this process and this thread are --- */

enum adopt_state {
    ADOPT_OFF,      /* nothing asked for memory yet */
    ADOPT_STARTING, /* on the way; memory comes from the C library */
    ADOPT_ON,
    ADOPT_PLAIN /* it did not work out: the C library's malloc for good */
};
extern _Atomic int adopt_state;

struct cell_list {
    void *first;
    uint32_t count;
};
struct adopt_thread {
    bool known;  /* its stack is in the table, its end will be noticed */
    bool inside; /* in a part of ours that may itself ask for memory: no call paths then */
    uint32_t serial;
    uintptr_t stack_low, stack_high;
    struct cell_list cells[CLASSES];
};
extern ADOPT_THREAD struct adopt_thread adopt_me;

struct adopt_options {
    uint32_t interval_ms;
    uint32_t reclaim; /* after so many rounds; 0: never */
    pid_t parent; /* which started the program itself: that reports when it ends, however young */
    char token[ADOPT_TOKEN_BYTES];
    char socket[64]; /* abstract name of the listener's socket */
};
extern struct adopt_options adopt_options;

/* Makes the heap ready on the first call. False: use the C library's malloc. */
bool adopt_start(void);
/* At a thread's first allocation. */
void adopt_thread_start(void);
uint64_t adopt_now_ns(void);
/* Zeroed private memory, never a root; NULL when it cannot be had. */
void *adopt_map(size_t bytes);
/* True when the return address lies in the collector's library. */
bool adopt_is_collector(const void *return_address);

/* --- blocks.c --- */

struct block {
    uintptr_t base;
    size_t bytes; /* that may be used */
    _Atomic uint64_t *word;
};
bool blocks_start(void);
void *block_new(size_t bytes, size_t alignment, uint32_t site);
/* False: the address is no block of ours. */
bool block_find(const void *at, struct block *block);
void block_free(struct block *block);
/* Frees the block if it is still that one. When: the heap locked. */
bool block_reclaim(uintptr_t base, uint64_t word);
/* Says that at is bytes of zeroes, cheaply for large blocks. */
void block_clear(const struct block *block, size_t bytes);
/* This thread's free cells go to the others. */
void blocks_thread_end(void);
/* Calls see for each block, by ascending address. When: in the snapshot, or the heap locked. */
void blocks_each(void (*see)(const struct block *block, uint64_t word));
/* The lock around the collector's library. */
void heap_lock(void);
bool heap_trylock(void);
void heap_unlock(void);
/* Runs fn(arg) on a stack of our own: the collector clears kilobytes of stack, and a coroutine may
 * not have them. When: the heap locked, or in the snapshot. */
void heap_stack_call(void (*fn)(void *), void *arg);
/* In the snapshot: the collector scans its own frames there, and what calls before have left. */
void heap_stack_clear(void);

/* --- paths.c --- */

struct site {
    uintptr_t frame[ADOPT_FRAMES];
    _Atomic uint64_t allocated;
};
bool paths_start(void);
void paths_forked(void);
/* The site of the call whose return address lies at sp. */
uint32_t path_site(uintptr_t sp);
uint32_t sites_count(void);
struct site *site_at(uint32_t site);

/* --- roots.c --- */

void roots_exclude(uintptr_t low, uintptr_t high);
void roots_stack_alive(uintptr_t low, uintptr_t high);
void roots_stack_dead(uintptr_t low, uintptr_t self);
void roots_all_stacks_dead_but(uintptr_t low);
/* Finds the collector's and our own data. */
void roots_start(void);
/* Hands all roots to the collector. False: the maps cannot be read. When: in the snapshot. */
bool roots_push(void);
/* Opens /proc/self/PATH, also after a chroot; -1 when that cannot be. */
int roots_open_proc(const char *path);
void roots_kernel_holds(int epoll, int fd, uint64_t data);

/* --- stop.c --- */

struct stopped {
    pid_t thread;
    uintptr_t sp; /* its registers and stack lie from here on */
};
/* Stops all other threads of the process. False: one did not stop in time, or cannot; all go on. */
bool stop_others(void);
void stop_end(void);
/* What a thread does when it is asked to stop. */
void stop_here(const void *context);
uint32_t stopped_count(void);
const struct stopped *stopped_at(uint32_t i);

/* --- judge.c --- */

bool judge_start(void);
void judge_forked(void);
/* The timer has expired. When: in the signal handler. */
void judge_on_timer(void);
/* From now on there are no rounds, here and in children of this process. */
void judge_no_more(enum adopt_unjudged why);
/* Once more when the program ends. */
void judge_at_end(void);

/* --- suspects.c --- */

bool suspects_start(void);
void suspects_forked(void);
/* A block was freed that was free already. */
void suspects_misfreed(void);
/* Frees what is lost for long enough. When: the heap locked, no copy alive. */
void suspects_reclaim(void);
/* In the snapshot, after marking: compares with the round before, and reports. */
void suspects_round(struct adopt_round *round);

/* --- report.c --- */

/* Which process reports are on from now on. */
void report_process(int32_t process);
bool report_open(void);
void report_round(struct adopt_round *round);
void report_site(const struct adopt_site *site);
void report_maps(void);
void report_end(void);

/* --- hide.c --- */

enum { ADOPT_SIGNAL_FROM_LAST = 5 }; /* our real-time signal, below SIGRTMAX */
void hide_start(void);
int adopt_signal(void);

#endif
