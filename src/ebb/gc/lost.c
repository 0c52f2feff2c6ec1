/* lost -- OWNED objects that nobody can reach any more, found from the marks.
 *
 * The collector tells of an object (mem.c's disclaim) only when it sweeps the object's block, and
 * it never sweeps a block of which more than 7/8 live: one object lost among many living ones would
 * never be reported. Other blocks are swept when an allocation of their size finds no free cell,
 * which may be never. So the marks are read instead: the collector lists the objects that it
 * reached, block by block in the order of their addresses, and the cells between two of them were
 * not reached. That covers each block in which something lives. A block without a living object,
 * and an object that has a block to itself, is swept by the collection itself.
 *
 * Some 10 ns for each object that lives; other threads run meanwhile, and wait only if they
 * allocate.
 *
 * 1. The allocation lock is held from before the mark until after this walk, so a cell that was not
 * reached was taken before the mark; and the thread that took it would hold it in a register. It is
 * garbage, then, whatever other threads do.
 * 2. A free cell has no valid header (mem.c, 1).
 * 3. An object that waits for its finalizer counts as reached; the finalizer's caller judges it
 * (collector.c).
 * 4. With find_leak the collector sweeps everything and reports by itself (find_leak.c). */
#include "gc/object.h"
#include <ebb/collector.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>
#include <gc/gc_mark.h>

/* The library's blocks (its HBLKSIZE): cells of one size, from the block's start on. */
enum { BLOCK_BYTES = 4096 };

struct gaps {
    char *block, *next; /* next: the first cell of the block that was not looked at */
    size_t cell;
};

static void judge_until(struct gaps *gaps, const char *end) {
    for (; gaps->next + gaps->cell <= end; gaps->next += gaps->cell) {
        struct object_header *header = ebbi_object_at_base(gaps->next);
        if (header)
            ebbi_object_judge(header);
    }
}

static void judge_rest(struct gaps *gaps) {
    if (gaps->block)
        judge_until(gaps, gaps->block + BLOCK_BYTES);
}

static void GC_CALLBACK on_reached(void *base, size_t cell, void *arg) {
    struct gaps *gaps = arg;
    if (cell > BLOCK_BYTES / 2)
        return;
    char *block = (char *)base - (uintptr_t)base % BLOCK_BYTES;
    if (block != gaps->block) {
        judge_rest(gaps);
        *gaps = (struct gaps){.block = block, .next = block, .cell = cell};
    }
    judge_until(gaps, base);
    gaps->next = (char *)base + cell;
}

void ebbi_lost_find(void) {
    if (ebb_collector_profile()->find_leak)
        return;
    struct gaps gaps = {0};
    GC_enumerate_reachable_objects_inner(on_reached, &gaps);
    judge_rest(&gaps);
}
