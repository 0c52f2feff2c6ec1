/* blocks -- the program's memory: cells of up to 2,032 bytes from the collector's pages, and whole
 * pages.
 *
 * Each thread keeps free cells by size and neither locks nor asks the collector while it has some;
 * what it has too many of, and what it leaves behind, goes to lists for all. A table of pages, two
 * levels deep, tells for each address whether it is ours, and how large its cell is.
 *
 * 1. A page-table entry is 0 (not ours, or free), a cell's granules (1 to 127), the word of the
 * large block that begins there, or an alias: an aligned block begins inside a large one.
 * 2. A cell that is free has no valid word, wherever it is; one that is used has it in its last
 * eight bytes, which the collector does not scan.
 * 3. The collector's library is called under the heap lock alone, on a stack of our own. Who
 * takes a snapshot holds that lock, so that the copy's collector is whole.
 * 4. Large blocks are neither written nor cleared by us, so what the program never touches stays
 * without memory; from 128 KiB on their pages go back to the system when they are freed. */
#include "heap.h"

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc/gc.h>
#include <gc/gc_mark.h>
#include <linux/futex.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    LEAF_BITS = 18, /* pages of a leaf: 1 GiB */
    PAGE_BITS = 12,
    ADDRESS_BITS = 47,
    TOP_ENTRIES = 1 << (ADDRESS_BITS - PAGE_BITS - LEAF_BITS),
    LEAF_ENTRIES = 1 << LEAF_BITS,
    RETURN_BYTES_MIN = 128 << 10,
    LIST_BYTES = 32 << 10, /* of one size that a thread keeps */
    LIST_COUNT_MAX = 256,
    STACK_BYTES = 256 << 10,
    GROWTH_BYTES_MIN = 128 << 10,
    GROWTH_PART = 16,
    WHOLE_PAGES = 0, /* the list of blocks of one page */
};
#define ALIAS_MAGIC 0xAEull

static _Atomic(_Atomic uint64_t *) *top;
static struct cell_list central[CLASSES];
static int large_kind;
static char *heap_stack;
static _Atomic uint32_t lock_word; /* 0 free, 1 held, 2 held and waited for */

/* --- the lock, and the stack that comes with it --- */

bool heap_trylock(void) {
    uint32_t expected = 0;
    return atomic_compare_exchange_strong(&lock_word, &expected, 1);
}

void heap_lock(void) {
    if (heap_trylock())
        return;
    while (atomic_exchange(&lock_word, 2) != 0)
        syscall(SYS_futex, &lock_word, FUTEX_WAIT_PRIVATE, 2, NULL);
}

void heap_unlock(void) {
    if (atomic_exchange(&lock_word, 0) == 2)
        syscall(SYS_futex, &lock_word, FUTEX_WAKE_PRIVATE, 1);
}

__attribute__((noinline)) void heap_stack_call(void (*fn)(void *), void *arg) {
    void *stack = heap_stack + STACK_BYTES;
    __asm__ volatile("movq %%rsp, %%r12\n\tmovq %[stack], %%rsp\n\tcall *%[fn]\n\tmovq %%r12, %%rsp"
                     : "+D"(arg), [fn] "+a"(fn)
                     : [stack] "r"(stack)
                     : "r12", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2",
                       "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11",
                       "xmm12", "xmm13", "xmm14", "xmm15", "cc", "memory");
}

void heap_stack_clear(void) {
    madvise(heap_stack, STACK_BYTES, MADV_DONTNEED);
}

/* --- the table of pages --- */

static _Atomic uint64_t *page_entry(uintptr_t at) {
    if (at >> ADDRESS_BITS)
        return NULL;
    _Atomic uint64_t *leaf =
        atomic_load_explicit(&top[at >> (PAGE_BITS + LEAF_BITS)], memory_order_acquire);
    return leaf ? leaf + ((at >> PAGE_BITS) & (LEAF_ENTRIES - 1)) : NULL;
}

/* Under the heap lock. */
static bool page_set(uintptr_t at, uint64_t value) {
    _Atomic(_Atomic uint64_t *) *slot = &top[at >> (PAGE_BITS + LEAF_BITS)];
    if (atomic_load_explicit(slot, memory_order_relaxed) == NULL) {
        _Atomic uint64_t *leaf = adopt_map(sizeof *leaf * LEAF_ENTRIES);
        if (leaf == NULL)
            return false;
        atomic_store_explicit(slot, leaf, memory_order_release);
    }
    atomic_store_explicit(page_entry(at), value, memory_order_release);
    return true;
}

bool blocks_start(void) {
    top = adopt_map(sizeof *top * TOP_ENTRIES);
    heap_stack = adopt_map(STACK_BYTES);
    return top != NULL && heap_stack != NULL;
}

/* --- asking the collector's library; all under the heap lock, on its stack --- */

struct wish {
    size_t bytes;
    void *got;
};

static void ask_cells(void *arg) {
    struct wish *wish = arg;
    wish->got = GC_malloc_many(wish->bytes - 1); /* the library adds one */
}

static void ask_pages(void *arg) {
    struct wish *wish = arg;
    if (large_kind == 0) /* its last word counts; not cleared */
        large_kind = (int)GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, 0);
    wish->got = GC_generic_malloc(wish->bytes, large_kind);
}

static void grow(void *arg) {
    (void)arg;
    size_t part = GC_get_heap_size() / GROWTH_PART;
    GC_expand_hp(part > GROWTH_BYTES_MIN ? part : GROWTH_BYTES_MIN);
}

static void give_pages(void *base) {
    GC_free(base);
}

static uint32_t cell_bytes(uint32_t granules) {
    return granules != WHOLE_PAGES ? granules * GRANULE_BYTES : PAGE_BYTES;
}

static bool is_full(const struct cell_list *list, uint32_t granules) {
    return list->count > LIST_COUNT_MAX || list->count * cell_bytes(granules) > LIST_BYTES;
}

static void move_cells(struct cell_list *from, struct cell_list *to, uint32_t count) {
    for (; count > 0 && from->first; count--) {
        void *cell = from->first;
        from->first = *(void **)cell;
        from->count--;
        *(void **)cell = to->first;
        to->first = cell;
        to->count++;
    }
}

/* The library's cells come as a chain. Where it has no free page it is a single larger one, and we
 * make it grow. What lies in a page that the table has no room for is forgotten. */
static void take_new_cells(uint32_t granules) {
    struct wish wish = {.bytes = (size_t)granules * GRANULE_BYTES};
    heap_stack_call(ask_cells, &wish);
    if (wish.got && GC_size(wish.got) != wish.bytes)
        heap_stack_call(grow, NULL);
    for (void *cell = wish.got; cell;) {
        void *next = *(void **)cell;
        uint32_t real = (uint32_t)(GC_size(cell) / GRANULE_BYTES);
        if (real < CLASSES && page_set((uintptr_t)cell, real)) {
            struct cell_list *list = &adopt_me.cells[real];
            *(void **)cell = list->first;
            list->first = cell;
            list->count++;
        }
        cell = next;
    }
}

static void refill(struct cell_list *list, uint32_t granules) {
    enum { TRIES = 2 };
    adopt_me.inside = true;
    heap_lock();
    uint32_t most = LIST_BYTES / cell_bytes(granules);
    move_cells(&central[granules], list, (most < LIST_COUNT_MAX ? most : LIST_COUNT_MAX) / 2);
    for (int try = 0; try < TRIES && list->first == NULL && granules != WHOLE_PAGES; try++)
        take_new_cells(granules);
    heap_unlock();
    adopt_me.inside = false;
}

static void flush(struct cell_list *list, uint32_t granules, uint32_t count) {
    heap_lock();
    move_cells(list, &central[granules], count);
    heap_unlock();
}

void blocks_thread_end(void) {
    for (uint32_t granules = 0; granules < CLASSES; granules++)
        if (adopt_me.cells[granules].count > 0)
            flush(&adopt_me.cells[granules], granules, adopt_me.cells[granules].count);
}

static void *cell_take(uint32_t granules) {
    struct cell_list *list = &adopt_me.cells[granules];
    if (__builtin_expect(list->first == NULL, 0))
        refill(list, granules);
    void *cell = list->first;
    if (cell) {
        list->first = *(void **)cell;
        list->count--;
        *(void **)cell = NULL;
    }
    return cell;
}

static void cell_give(void *cell, uint32_t granules) {
    struct cell_list *list = &adopt_me.cells[granules];
    *(void **)cell = list->first;
    list->first = cell;
    list->count++;
    if (__builtin_expect(is_full(list, granules), 0))
        flush(list, granules, list->count / 2);
}

/* --- new blocks --- */

static void *small_new(size_t bytes, size_t cell_bytes, uint32_t site) {
    uint32_t granules = (uint32_t)((cell_bytes + GRANULE_BYTES - 1) / GRANULE_BYTES);
    char *cell = cell_take(granules);
    if (cell == NULL)
        return NULL;
    size_t room = (size_t)granules * GRANULE_BYTES - WORD_BYTES;
    atomic_store_explicit((_Atomic uint64_t *)(void *)(cell + room),
                          word_make(++adopt_me.serial, site, room - bytes), memory_order_release);
    return cell;
}

/* One byte less than asked for, which the library adds for pointers to the end; but large. */
static void *pages_take(size_t bytes) {
    if (bytes <= PAGE_BYTES) {
        void *page = cell_take(WHOLE_PAGES);
        if (page)
            return page;
    }
    struct wish wish = {.bytes = bytes - 1 < PAGE_BYTES / 2 ? PAGE_BYTES / 2 : bytes - 1};
    adopt_me.inside = true;
    heap_lock();
    heap_stack_call(ask_pages, &wish);
    if (wish.got && !page_set((uintptr_t)wish.got, 0)) {
        heap_stack_call(give_pages, wish.got);
        wish.got = NULL;
    }
    heap_unlock();
    adopt_me.inside = false;
    return wish.got;
}

static void *large_new(size_t bytes, uint32_t site) {
    void *base = pages_take(bytes);
    if (base) {
        size_t room = (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1);
        atomic_store_explicit(page_entry((uintptr_t)base),
                              word_make(++adopt_me.serial, site, room - bytes),
                              memory_order_release);
    }
    return base;
}

/* Aligned to more than a page: inside a larger block, found through an alias. */
static void *inside_large_new(size_t bytes, size_t alignment, uint32_t site) {
    char *base = large_new(bytes + alignment, site);
    if (base == NULL)
        return NULL;
    uintptr_t at = ((uintptr_t)base + alignment - 1) & ~(alignment - 1);
    if (at == (uintptr_t)base)
        return base;
    heap_lock();
    bool set = page_set(at, ALIAS_MAGIC << 56 | (uintptr_t)base >> PAGE_BITS);
    heap_unlock();
    return set ? (void *)at : NULL;
}

/* Cells of a power of two lie on multiples of it, pages on multiples of theirs. */
static void *aligned_new(size_t bytes, size_t alignment, uint32_t site) {
    size_t cell = alignment;
    while (cell < bytes + WORD_BYTES)
        cell *= 2;
    if (cell <= SMALL_CELL_MAX)
        return small_new(bytes, cell, site);
    if (alignment <= PAGE_BYTES)
        return large_new(bytes, site);
    return inside_large_new(bytes, alignment, site);
}

void *block_new(size_t bytes, size_t alignment, uint32_t site) {
    if (bytes == 0)
        bytes = 1;
    if (bytes >> (ADDRESS_BITS - 1) || alignment >> (ADDRESS_BITS - 1))
        return NULL;
    if (alignment > GRANULE_BYTES)
        return aligned_new(bytes, alignment, site);
    if (bytes <= SMALL_MAX)
        return small_new(bytes, bytes + WORD_BYTES, site);
    return large_new(bytes, site);
}

/* --- blocks that are there --- */

static bool find_small(uintptr_t at, uint32_t granules, struct block *block) {
    uint32_t cell = granules * GRANULE_BYTES;
    if ((uint32_t)(at % PAGE_BYTES) % cell != 0)
        return false;
    block->base = at;
    block->bytes = cell - WORD_BYTES;
    block->word = (_Atomic uint64_t *)(at + block->bytes);
    return true;
}

bool block_find(const void *pointer, struct block *block) {
    uintptr_t at = (uintptr_t)pointer;
    if (__builtin_expect(top == NULL, 0))
        return false;
    _Atomic uint64_t *entry = page_entry(at);
    uint64_t value = entry ? atomic_load_explicit(entry, memory_order_relaxed) : 0;
    if (value == 0)
        return false;
    if (value < CLASSES)
        return find_small(at, (uint32_t)value, block);
    if (value >> 56 == ALIAS_MAGIC) {
        at = (uintptr_t)(value << 8 >> 8) << PAGE_BITS;
        entry = page_entry(at);
    }
    block->base = at;
    block->bytes = GC_size((void *)at);
    block->word = entry;
    return true;
}

/* at is where the program has its pointer: the base, unless it is an alias. */
static void large_free(void *base, size_t bytes) {
    if (bytes == PAGE_BYTES) {
        cell_give(base, WHOLE_PAGES);
        return;
    }
    if (bytes >= RETURN_BYTES_MIN)
        madvise(base, bytes, MADV_DONTNEED);
    heap_lock();
    heap_stack_call(give_pages, base);
    heap_unlock();
}

void block_free(struct block *block) {
    void *base = (void *)block->base;
    atomic_store_explicit(block->word, 0, memory_order_relaxed);
    if (block->bytes > SMALL_MAX) {
        large_free(base, block->bytes);
        return;
    }
    memset(base, 0, block->bytes); /* else a stale pointer to the cell would hold what it held */
    cell_give(base, (uint32_t)(block->bytes + WORD_BYTES) / GRANULE_BYTES);
}

bool block_reclaim(uintptr_t base, uint64_t word) {
    struct block block;
    if (!block_find((void *)base, &block) || !atomic_compare_exchange_strong(block.word, &word, 0))
        return false;
    uint32_t granules = (uint32_t)(block.bytes + WORD_BYTES) / GRANULE_BYTES;
    if (block.bytes > SMALL_MAX) {
        if (block.bytes >= RETURN_BYTES_MIN)
            madvise((void *)base, block.bytes, MADV_DONTNEED);
        heap_stack_call(give_pages, (void *)base);
        return true;
    }
    memset((void *)base, 0, block.bytes);
    *(void **)base = central[granules].first;
    central[granules].first = (void *)base;
    central[granules].count++;
    return true;
}

void block_clear(const struct block *block, size_t bytes) {
    if (block->bytes >= RETURN_BYTES_MIN &&
        madvise((void *)block->base, block->bytes, MADV_DONTNEED) == 0)
        return;
    memset((void *)block->base, 0, bytes);
}

/* --- all blocks --- */

static void see_page(uintptr_t page, _Atomic uint64_t *entry,
                     void (*see)(const struct block *, uint64_t)) {
    struct block block = {.base = page, .word = entry};
    uint64_t value = atomic_load_explicit(entry, memory_order_relaxed);
    if (WORD_IS_VALID(value)) {
        block.bytes = GC_size((void *)page);
        see(&block, value);
    } else if (value > 0 && value < CLASSES) {
        uint32_t cell = (uint32_t)value * GRANULE_BYTES;
        for (uint32_t offset = 0; offset + cell <= PAGE_BYTES; offset += cell) {
            find_small(page + offset, (uint32_t)value, &block);
            uint64_t word = atomic_load_explicit(block.word, memory_order_relaxed);
            if (WORD_IS_VALID(word))
                see(&block, word);
        }
    }
}

void blocks_each(void (*see)(const struct block *block, uint64_t word)) {
    for (uintptr_t i = 0; i < TOP_ENTRIES; i++) {
        _Atomic uint64_t *leaf = atomic_load_explicit(&top[i], memory_order_relaxed);
        for (uintptr_t j = 0; leaf && j < LEAF_ENTRIES; j++)
            if (atomic_load_explicit(&leaf[j], memory_order_relaxed) != 0)
                see_page((i << LEAF_BITS | j) << PAGE_BITS, &leaf[j], see);
    }
}
