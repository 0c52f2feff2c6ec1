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
 * 1. An entry never moves: chunks are added, never replaced or freed. The static array below is
 * their root.
 * 2. Entries are pointer-free memory. They must not hold their scope, else a forgotten scope would
 * never be found. The scope is readable all the same while it has entries: its finalizer holds it
 * until the entries are gone.
 * 3. A generation is given once per entry. An entry whose generations are used up is never used
 * again.
 * 4. Nothing is allocated under the lock: an allocation may collect, and a collection may wake the
 * loop.
 * 5. Entry 0 is never given out: 0 ends the lists. */
#include "table.h"

#include <ebb/assert.h>
#include <ebb/clock.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "gc/types.h"
#include "tell/metrics.h"

#define CHUNK_ENTRIES 1024
#define CHUNKS_MAX    1024
#define NO_DESCRIPTOR UINT32_MAX

struct entry {
    _Atomic uint64_t word; /* generation << 32 | descriptor, or NO_DESCRIPTOR when free */
    struct ebb_scope *scope;
    uint64_t opened_ns;
    uintptr_t opened_at;
    uint32_t older, newer; /* in the scope; older also links the free list */
    enum ebb_resource_class kind;
    char note[sizeof(((struct ebbi_resource *)NULL)->note)];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(struct entry *) chunks[CHUNKS_MAX];
static uint32_t chunks_used, first_free;                   /* under the lock */
static _Atomic size_t open_by_class[EBB_RESOURCE_CLASSES]; /* written under the lock */

static uint64_t word_of(uint32_t generation, uint32_t descriptor) {
    return (uint64_t)generation << 32 | descriptor;
}

static uint32_t generation_of(uint64_t word) {
    return (uint32_t)(word >> 32);
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
    bool open = (uint32_t)word != NO_DESCRIPTOR && generation_of(word) == handle.generation;
    return open ? entry : NULL;
}

/* Puts a fresh chunk at the end, under the lock. */
static void chunk_add(struct entry *chunk) {
    uint32_t base = chunks_used * CHUNK_ENTRIES;
    memset(chunk, 0, CHUNK_ENTRIES * sizeof(struct entry));
    for (uint32_t i = CHUNK_ENTRIES; i-- > 0;) {
        atomic_init(&chunk[i].word, word_of(1, NO_DESCRIPTOR));
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
        chunk = ebb_try_sized(&ebb_type_resources, CHUNK_ENTRIES * sizeof(struct entry));
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

bool ebbi_table_enter(ebb_fd *handle, struct ebb_scope *scope, enum ebb_resource_class kind, int fd,
                      const char *note, uintptr_t opened_at) {
    ebb_assert(fd >= 0 && kind < EBB_RESOURCE_CLASSES, "descriptor %d, class %d", fd, (int)kind);
    uint64_t now_ns = ebb_clock_ns();
    if (!lock_with_room())
        return false;
    uint32_t index = first_free;
    struct entry *entry = entry_find(index);
    first_free = entry->older;
    entry->kind = kind;
    entry->opened_ns = now_ns;
    entry->opened_at = opened_at;
    entry->note[0] = '\0';
    if (note != NULL)
        strncat(entry->note, note, sizeof entry->note - 1);
    link_newest(scope, index, entry);
    uint32_t generation = generation_of(atomic_load_explicit(&entry->word, memory_order_relaxed));
    atomic_store_explicit(&entry->word, word_of(generation, (uint32_t)fd), memory_order_release);
    atomic_fetch_add_explicit(&open_by_class[kind], 1, memory_order_relaxed);
    pthread_mutex_unlock(&lock);

    ebb_count(ebbi_metric_resources_opened[kind], 1);
    ebb_gauge_add(ebbi_metric_resources_open[kind], 1);
    *handle = (ebb_fd){index, generation};
    return true;
}

/* Under the lock: makes every handle of the entry stale and gives the entry back. */
static void entry_leave(uint32_t index, struct entry *entry, struct ebbi_resource *was) {
    uint64_t word = atomic_load_explicit(&entry->word, memory_order_relaxed);
    was->fd = (int)(uint32_t)word;
    was->kind = entry->kind;
    was->opened_at = entry->opened_at;
    memcpy(was->note, entry->note, sizeof was->note);
    unlink_entry(entry);
    uint32_t generation = generation_of(word) + 1;
    atomic_store_explicit(&entry->word, word_of(generation, NO_DESCRIPTOR), memory_order_release);
    atomic_fetch_sub_explicit(&open_by_class[was->kind], 1, memory_order_relaxed);
    entry->scope = NULL;
    if (generation == 0)
        return; /* all its generations were given: retired */
    entry->older = first_free;
    first_free = index;
}

static bool count_stale(ebb_fd handle) {
    if (handle.generation != 0)
        ebb_count(&ebb_metric_stale_handles, 1);
    return false;
}

bool ebbi_table_leave(ebb_fd handle, struct ebbi_resource *was) {
    pthread_mutex_lock(&lock);
    struct entry *entry = entry_of(handle);
    if (entry != NULL)
        entry_leave(handle.index, entry, was);
    pthread_mutex_unlock(&lock);
    return entry != NULL || count_stale(handle);
}

bool ebbi_table_leave_newest(struct ebb_scope *scope, struct ebbi_resource *was) {
    pthread_mutex_lock(&lock);
    uint32_t index = scope->newest;
    if (index != 0)
        entry_leave(index, entry_find(index), was);
    pthread_mutex_unlock(&lock);
    return index != 0;
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
    /* One load: generation and descriptor belong together whatever other threads do meanwhile. A
     * free entry's low half is all ones, which is the -1 that we promise. */
    uint64_t word = atomic_load_explicit(&entry->word, memory_order_acquire);
    return generation_of(word) == handle.generation ? (int)(uint32_t)word : -1;
}

size_t ebb_resources_each(void (*see)(const struct ebb_resource_view *view, void *context),
                          void *context) {
    size_t seen = 0;
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < chunks_used * CHUNK_ENTRIES; i++) {
        struct entry *entry = entry_find(i);
        uint32_t fd = (uint32_t)atomic_load_explicit(&entry->word, memory_order_relaxed);
        if (fd == NO_DESCRIPTOR)
            continue;
        struct ebb_resource_view view = {.kind = entry->kind,
                                         .fd = (int)fd,
                                         .note = entry->note,
                                         .scope = entry->scope->name,
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
