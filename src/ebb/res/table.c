/* table -- every open resource of the process, one entry each.
 *
 * A descriptor is a small number that the kernel gives out again as soon as it is closed, so
 * whoever keeps the number too long reaches somebody else's connection. Here everybody keeps a
 * handle instead: the index of an entry and the generation that the entry had. Closing raises the
 * generation, which makes all old handles stale at once.
 *
 * The descriptor and the generation share one 64-bit word, so a handle is resolved by one atomic
 * load without a lock. All else is under one lock: opening and closing costs a system call anyhow.
 *
 * Who is in the middle of using a descriptor pins it: a count in the same word. Closing a pinned
 * entry takes it out of its scope and makes its handles stale at once, but the descriptor stays
 * open, and its number taken, until the last pin is gone. So a callback that closes its own
 * connection, or another thread that does, cannot let somebody else's connection slip under it.
 *
 * 1. An entry never moves: chunks are added, never replaced or freed. The static array below is
 * their root.
 * 2. Entries are pointer-free memory. They must not hold their scope, else a forgotten scope would
 * never be found. The scope is readable all the same while it has entries: its finalizer holds it
 * until the entries are gone.
 * 3. A generation is given once per entry. An entry whose generations are used up is never used
 * again.
 * 4. Nothing is allocated under the lock: an allocation may collect, and a collection may wake the
 * loop.
 * 5. Entry 0 is never given out: 0 ends the lists.
 * 6. An entry that is leaving gets no new pins; whoever takes the last one off closes it, alone. */
#include "table.h"

#include <ebb/assert.h>
#include <ebb/probe.h>
#include <ebb/clock.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "gc/types.h"
#include "telemetry/metrics.h"

#define CHUNK_ENTRIES 1024
#define CHUNKS_MAX    1024

/* The word: generation 32 | leaving 1 | pins 7 | descriptor 24. */
#define DESCRIPTOR_BITS  UINT64_C(0xffffff)
#define FREE             UINT64_C(0xffffff) /* in the place of a descriptor: nothing is here */
#define HELD             UINT64_C(0xfffffe) /* a resource that has no descriptor */
#define PIN              UINT64_C(0x1000000)
#define PINS             UINT64_C(0x7f000000)
#define LEAVING          UINT64_C(0x80000000)
#define GENERATION_SHIFT 32

struct entry {
    _Atomic uint64_t word;
    struct ebb_scope *scope; /* NULL when free or leaving */
    uint64_t at, size;       /* what is no descriptor: address, process, thread */
    uint64_t opened_ns;
    uintptr_t opened_at;
    uint32_t older, newer; /* in the scope; older also links the free list */
    enum ebb_resource_class kind;
    char note[sizeof(((struct ebbi_resource *)NULL)->note)];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* A forked copy may read the table (a snapshot does), so the fork waits until it is whole. */
static void lock_take(void) {
    pthread_mutex_lock(&lock);
}

static void lock_leave(void) {
    pthread_mutex_unlock(&lock);
}

__attribute__((constructor)) static void lock_survives_fork(void) {
    pthread_atfork(lock_take, lock_leave, lock_leave);
}

static _Atomic(struct entry *) chunks[CHUNKS_MAX];
static uint32_t chunks_used, first_free;                   /* under the lock */
static _Atomic size_t open_by_class[EBB_RESOURCE_CLASSES]; /* written under the lock */

static uint64_t word_of(uint32_t generation, uint64_t rest) {
    return (uint64_t)generation << GENERATION_SHIFT | rest;
}

static uint32_t generation_of(uint64_t word) {
    return (uint32_t)(word >> GENERATION_SHIFT);
}

/* The descriptor, or -1 when there is none. */
static int descriptor_of(uint64_t word) {
    uint64_t bits = word & DESCRIPTOR_BITS;
    return bits < HELD ? (int)bits : -1;
}

static bool is_open(uint64_t word) {
    return (word & DESCRIPTOR_BITS) != FREE && (word & LEAVING) == 0;
}

/* NULL for an index that was never given out. */
static struct entry *entry_find(uint32_t index) {
    uint32_t number = index / CHUNK_ENTRIES;
    if (number >= CHUNKS_MAX)
        return NULL;
    struct entry *chunk = atomic_load_explicit(&chunks[number], memory_order_acquire);
    return chunk == NULL ? NULL : &chunk[index % CHUNK_ENTRIES];
}

/* The entry of a handle that is not stale, or NULL. */
static struct entry *entry_of(ebb_fd handle) {
    struct entry *entry = entry_find(handle.index);
    if (entry == NULL)
        return NULL;
    uint64_t word = atomic_load_explicit(&entry->word, memory_order_acquire);
    return is_open(word) && generation_of(word) == handle.generation ? entry : NULL;
}

/* Puts a fresh chunk at the end, under the lock. */
static void chunk_add(struct entry *chunk) {
    uint32_t base = chunks_used * CHUNK_ENTRIES;
    memset(chunk, 0, CHUNK_ENTRIES * sizeof(struct entry));
    for (uint32_t i = CHUNK_ENTRIES; i-- > 0;) {
        atomic_init(&chunk[i].word, word_of(1, FREE));
        if (base + i == 0)
            continue;
        chunk[i].older = first_free;
        first_free = base + i;
    }
    atomic_store_explicit(&chunks[chunks_used++], chunk, memory_order_release);
}

/* Takes the lock with a free entry at hand; false, without the lock, when there can be none. */
static bool lock_with_room(void) {
    struct entry *chunk = NULL;
    for (;;) {
        pthread_mutex_lock(&lock);
        if (first_free == 0 && chunk != NULL && chunks_used < CHUNKS_MAX)
            chunk_add(chunk);
        if (first_free != 0)
            return true;
        bool full = chunks_used == CHUNKS_MAX;
        pthread_mutex_unlock(&lock);
        if (full)
            return false;
        chunk = ebb_try_sized(&ebbi_type_resources, CHUNK_ENTRIES * sizeof(struct entry));
        if (chunk == NULL)
            return false;
    }
}

static void link_newest(struct ebb_scope *scope, uint32_t index, struct entry *entry) {
    entry->scope = scope;
    entry->newer = 0;
    entry->older = scope->newest;
    if (entry->older != 0)
        entry_find(entry->older)->newer = index;
    scope->newest = index;
}

static void unlink_entry(struct entry *entry) {
    if (entry->older != 0)
        entry_find(entry->older)->newer = entry->newer;
    if (entry->newer != 0)
        entry_find(entry->newer)->older = entry->older;
    else
        entry->scope->newest = entry->older;
}

bool ebbi_table_enter(ebb_fd *handle, struct ebb_scope *scope,
                      const struct ebbi_resource *resource) {
    enum ebb_resource_class kind = resource->kind;
    ebb_assert(kind < EBB_RESOURCE_CLASSES, "class %d", (int)kind);
    uint64_t now_ns = ebb_clock_ns();
    if (resource->fd >= 0 && (uint64_t)resource->fd >= HELD)
        return false;
    if (!lock_with_room())
        return false;
    uint32_t index = first_free;
    struct entry *entry = entry_find(index);
    first_free = entry->older;
    entry->kind = kind;
    entry->opened_ns = now_ns;
    entry->opened_at = resource->opened_at;
    entry->at = resource->at;
    entry->size = resource->size;
    memcpy(entry->note, resource->note, sizeof entry->note);
    link_newest(scope, index, entry);
    uint32_t generation = generation_of(atomic_load_explicit(&entry->word, memory_order_relaxed));
    uint64_t descriptor = resource->fd >= 0 ? (uint64_t)resource->fd : HELD;
    atomic_store_explicit(&entry->word, word_of(generation, descriptor), memory_order_release);
    atomic_fetch_add_explicit(&open_by_class[kind], 1, memory_order_relaxed);
    pthread_mutex_unlock(&lock);

    EBB_PROBE2(resource_open, kind, resource->fd);
    ebb_count(ebbi_metric_resources_opened[kind], 1);
    ebb_gauge_add(ebbi_metric_resources_open[kind], 1);
    *handle = (ebb_fd){index, generation};
    return true;
}

/* Under the lock: what was in the entry, which is free from now on. */
static void entry_free(uint32_t index, struct entry *entry, struct ebbi_resource *was) {
    uint64_t word = atomic_load_explicit(&entry->word, memory_order_relaxed);
    was->fd = descriptor_of(word);
    was->kind = entry->kind;
    was->opened_at = entry->opened_at;
    was->at = entry->at;
    was->size = entry->size;
    memcpy(was->note, entry->note, sizeof was->note);
    uint32_t generation = generation_of(word);
    atomic_store_explicit(&entry->word, word_of(generation, FREE), memory_order_release);
    atomic_fetch_sub_explicit(&open_by_class[was->kind], 1, memory_order_relaxed);
    if (generation == 0)
        return; /* all its generations were given: retired */
    entry->older = first_free;
    first_free = index;
}

/* Under the lock: makes every handle of the entry stale. False when a pin keeps it open; was is
 * then its class and note alone. */
static bool entry_leave(uint32_t index, struct entry *entry, struct ebbi_resource *was) {
    unlink_entry(entry);
    entry->scope = NULL;
    uint64_t word = atomic_load_explicit(&entry->word, memory_order_relaxed), next;
    do
        next = word_of(generation_of(word) + 1, LEAVING | (word & (PINS | DESCRIPTOR_BITS)));
    while (!atomic_compare_exchange_weak(&entry->word, &word, next));
    if ((word & PINS) != 0)
        return false;
    entry_free(index, entry, was);
    return true;
}

static bool count_stale(ebb_fd handle) {
    if (handle.generation != 0)
        ebb_count(&ebb_metric_stale_handles, 1);
    return false;
}

enum ebbi_leave ebbi_table_leave(ebb_fd handle, struct ebbi_resource *was) {
    pthread_mutex_lock(&lock);
    struct entry *entry = entry_of(handle);
    enum ebbi_leave left = EBBI_NOTHING;
    if (entry != NULL)
        left = entry_leave(handle.index, entry, was) ? EBBI_LEFT : EBBI_PINNED;
    pthread_mutex_unlock(&lock);
    if (left == EBBI_NOTHING)
        count_stale(handle);
    return left;
}

enum ebbi_leave ebbi_table_leave_newest(struct ebb_scope *scope, struct ebbi_resource *was) {
    pthread_mutex_lock(&lock);
    uint32_t index = scope->newest;
    enum ebbi_leave left = EBBI_NOTHING;
    if (index != 0)
        left = entry_leave(index, entry_find(index), was) ? EBBI_LEFT : EBBI_PINNED;
    pthread_mutex_unlock(&lock);
    return left;
}

int ebb_fd_pin(ebb_fd handle) {
    struct entry *entry = entry_of(handle);
    if (entry == NULL)
        return -1;
    uint64_t word = atomic_load_explicit(&entry->word, memory_order_relaxed);
    do {
        if (!is_open(word) || generation_of(word) != handle.generation)
            return -1;
        ebb_assert((word & PINS) != PINS, "entry %u has too many pins", handle.index);
    } while (!atomic_compare_exchange_weak_explicit(&entry->word, &word, word + PIN,
                                                    memory_order_acquire, memory_order_relaxed));
    return descriptor_of(word);
}

/* Only the last pin of a leaving entry comes here, so nobody else frees it meanwhile. */
static void close_unpinned(uint32_t index) {
    struct ebbi_resource was;
    pthread_mutex_lock(&lock);
    entry_free(index, entry_find(index), &was);
    pthread_mutex_unlock(&lock);
    ebbi_resource_close(&was);
}

void ebb_fd_unpin(ebb_fd handle) {
    struct entry *entry = entry_find(handle.index);
    uint64_t word = atomic_fetch_sub_explicit(&entry->word, PIN, memory_order_acq_rel);
    ebb_assert((word & PINS) != 0, "entry %u has no pin", handle.index);
    if ((word & LEAVING) != 0 && (word & PINS) == PIN)
        close_unpinned(handle.index);
}

bool ebbi_table_move(ebb_fd handle, struct ebb_scope *to) {
    pthread_mutex_lock(&lock);
    struct entry *entry = entry_of(handle);
    if (entry != NULL) {
        unlink_entry(entry);
        link_newest(to, handle.index, entry);
    }
    pthread_mutex_unlock(&lock);
    return entry != NULL || count_stale(handle);
}

int ebb_fd_get(ebb_fd handle) {
    struct entry *entry = entry_find(handle.index);
    if (entry == NULL)
        return -1;
    /* One load: generation and descriptor belong together whatever other threads do meanwhile. */
    uint64_t word = atomic_load_explicit(&entry->word, memory_order_acquire);
    return generation_of(word) == handle.generation && is_open(word) ? descriptor_of(word) : -1;
}

bool ebbi_table_read(ebb_fd handle, struct ebbi_resource *now) {
    pthread_mutex_lock(&lock);
    struct entry *entry = entry_of(handle);
    if (entry != NULL) {
        now->kind = entry->kind;
        now->fd = descriptor_of(atomic_load_explicit(&entry->word, memory_order_relaxed));
        now->at = entry->at;
        now->size = entry->size;
        memcpy(now->note, entry->note, sizeof now->note);
    }
    pthread_mutex_unlock(&lock);
    return entry != NULL;
}

size_t ebb_resources_each(void (*see)(const struct ebb_resource_view *view, void *context),
                          void *context) {
    size_t seen = 0;
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < chunks_used * CHUNK_ENTRIES; i++) {
        struct entry *entry = entry_find(i);
        uint64_t word = atomic_load_explicit(&entry->word, memory_order_relaxed);
        if ((word & DESCRIPTOR_BITS) == FREE)
            continue;
        struct ebb_resource_view view = {.kind = entry->kind,
                                         .fd = descriptor_of(word),
                                         .at = entry->at,
                                         .size = entry->size,
                                         .note = entry->note,
                                         .scope = entry->scope ? entry->scope->name : "(closing)",
                                         .opened_ns = entry->opened_ns,
                                         .opened_at = entry->opened_at};
        if (see != NULL)
            see(&view, context);
        seen++;
    }
    pthread_mutex_unlock(&lock);
    return seen;
}

size_t ebb_resources_count(enum ebb_resource_class kind) {
    return atomic_load_explicit(&open_by_class[kind], memory_order_relaxed);
}
