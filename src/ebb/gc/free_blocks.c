/* free_blocks -- large pieces of heap that were reclaimed, and are resident still.
 *
 * The collector keeps a free block for who wants one of its size next, and gives it back to the
 * system after some collections in which nobody did. Where sizes change nobody does, fresh memory
 * is taken instead, and the old blocks lie there meanwhile. So each large object that is reclaimed
 * is remembered here, oldest first, until something large takes its place; what passes a bound that
 * the program sets goes back at once: the block stays in the heap, its pages leave.
 *
 * 1. Everything here happens under the allocation lock; the sum alone may be read without.
 * 2. A piece may have been taken in part by small objects. So a page is given back only while it
 * belongs to no object.
 * 3. What is remembered is not held: the collector does not look here. */
#include "gc/free_blocks.h"
#include <ebb/collector.h>
#include <ebb/mem.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>
#include <gc/gc_mark.h>

enum { PIECES_MAX = 1024, BLOCK = 4096 };

struct piece {
    char *at, *end; /* whole blocks */
};

static struct piece pieces[PIECES_MAX]; /* oldest first */
static size_t count;
static _Atomic size_t sum;

void ebbi_free_blocks_start(void) {
    GC_exclude_static_roots(pieces, pieces + PIECES_MAX);
}

static void sum_add(size_t bytes) {
    atomic_fetch_add_explicit(&sum, bytes, memory_order_relaxed);
}

static void sum_less(size_t bytes) {
    atomic_fetch_sub_explicit(&sum, bytes, memory_order_relaxed);
}

static void remove_at(size_t i) {
    count--;
    memmove(&pieces[i], &pieces[i + 1], (count - i) * sizeof *pieces);
}

static void give_back_oldest(void) {
    const struct piece oldest = pieces[0];
    for (char *at = oldest.at, *end; at < oldest.end; at = end + BLOCK) {
        for (end = at; end < oldest.end && GC_base(end) == NULL;)
            end += BLOCK;
        if (end > at)
            madvise(at, (size_t)(end - at), MADV_DONTNEED);
    }
    sum_less((size_t)(oldest.end - oldest.at));
    remove_at(0);
}

static void add(char *at, char *end) {
    if (count == PIECES_MAX)
        give_back_oldest();
    pieces[count++] = (struct piece){at, end};
    sum_add((size_t)(end - at));
}

static struct piece blocks_of(void *base, size_t bytes) {
    uintptr_t at = (uintptr_t)base & ~(uintptr_t)(BLOCK - 1);
    uintptr_t end = ((uintptr_t)base + bytes + BLOCK - 1) & ~(uintptr_t)(BLOCK - 1);
    return (struct piece){(char *)at, (char *)end};
}

void ebbi_free_blocks_add(void *base, size_t bytes) {
    struct piece piece = blocks_of(base, bytes);
    add(piece.at, piece.end);
}

static void *GC_CALLBACK take(void *arg) {
    const struct piece taken = *(struct piece *)arg;
    for (size_t i = 0; i < count;) {
        struct piece old = pieces[i];
        if (old.end <= taken.at || taken.end <= old.at) {
            i++;
            continue;
        }
        remove_at(i);
        sum_less((size_t)(old.end - old.at));
        if (old.at < taken.at)
            add(old.at, taken.at);
        if (taken.end < old.end)
            add(taken.end, old.end);
    }
    return NULL;
}

void ebbi_free_blocks_take(void *base, size_t bytes) {
    struct piece piece = blocks_of(base, bytes);
    if (atomic_load_explicit(&sum, memory_order_relaxed) > 0)
        GC_call_with_alloc_lock(take, &piece);
}

static void *GC_CALLBACK bound(void *arg) {
    size_t bytes = *(size_t *)arg;
    while (count > 0 && atomic_load_explicit(&sum, memory_order_relaxed) > bytes)
        give_back_oldest();
    return NULL;
}

void ebb_free_blocks_bound(size_t bytes) {
    if (atomic_load_explicit(&sum, memory_order_relaxed) <= bytes)
        return;
    GC_call_with_alloc_lock(bound, &bytes);
    ebb_stack_clear(); /* what was remembered is somebody's memory soon */
}
