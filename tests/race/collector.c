/* collector -- stands in for the collector under ThreadSanitizer, which does not survive the
 * collector's way of stopping threads: memory comes from malloc and is never freed. So what it
 * finds are races of the store itself, and only those. The census of types, by which the store
 * keeps its limit, is put right when a collection is asked for: what no root holds is gone. */
#include "store/internal.h"
#include <ebb/thread.h>
#include <stdlib.h>
#include <string.h>

static struct store *_Atomic open_store;
struct ebb_type ebb_type_bytes = {.name = "bytes"};

struct ebb_thread {
    pthread_t id;
    void (*run)(void *);
    void *arg;
};

void ebb_types_add(struct ebb_type *const *types, size_t count) {
    (void)types, (void)count;
}

static void *from_malloc(struct ebb_type *type, size_t size) {
    char *object = aligned_alloc(16, (size + 15) & ~(size_t)15);
    if (type->scan == EBB_POINTERS)
        memset(object, 0, size);
    atomic_fetch_add(&type->allocated_bytes, size);
    return object;
}

void *ebb_new_sized(struct ebb_type *type, size_t size) {
    void *object = from_malloc(type, size);
    if (type == &ebb_type_store)
        atomic_store(&open_store, object);
    return object;
}

void *ebb_try_sized(struct ebb_type *type, size_t size) {
    return from_malloc(type, size);
}

void *ebb_bytes(size_t size) {
    return from_malloc(&ebb_type_bytes, size);
}

void ebb_done(const void *object) {
    if (object == atomic_load(&open_store))
        atomic_store(&open_store, NULL);
}

static void all_gone(void) {
    static struct ebb_type *const types[] = {
#define EBB_TYPE EBB_TYPE_ADDRESS
#include "tbl/store_types.def"
    };
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        atomic_store(&types[i]->gone_bytes, atomic_load(&types[i]->allocated_bytes));
}

static void census(void) {
    struct store *store = atomic_load(&open_store);
    if (store == NULL) {
        all_gone();
        return;
    }
    pthread_mutex_lock(&store->lock);
    uint64_t garbage = segment_bytes_held(store) - segment_bytes_live(store);
    atomic_fetch_add(&ebb_type_segment.gone_bytes, garbage);
    pthread_mutex_unlock(&store->lock);
}

void ebb_collect(enum ebb_cause cause) {
    (void)cause;
    census();
}

void ebb_collect_fully(enum ebb_cause cause) {
    (void)cause;
    census();
}

void ebb_stack_clear(void) {}

uint32_t ebb_collect_per_mille(void) {
    return 10;
}

unsigned ebb_dropped_slack(void) {
    return 1;
}

bool ebb_charge(size_t bytes) {
    (void)bytes;
    return true; /* no bound */
}

void ebb_free_blocks_bound(size_t bytes) {
    (void)bytes;
}

bool ebb_dropped(size_t bytes) {
    (void)bytes;
    return false;
}

size_t ebb_dropped_now(void) {
    return 0;
}

void ebb_budget_set(size_t bytes) {
    (void)bytes;
}

enum ebb_err ebb_profile_read(struct ebb_profile *profile, const char *name_or_file) {
    (void)name_or_file;
    profile->name[0] = '-';
    return EBB_OK;
}

void ebb_collector_start(const struct ebb_profile *profile) {
    (void)profile;
}

static void *thread_main(void *arg) {
    struct ebb_thread *thread = arg;
    thread->run(thread->arg);
    return NULL;
}

enum ebb_err ebb_thread_start(struct ebb_thread **thread, const char *name, void (*run)(void *),
                              void *arg) {
    (void)name;
    *thread = malloc(sizeof **thread);
    **thread = (struct ebb_thread){.run = run, .arg = arg};
    return pthread_create(&(*thread)->id, NULL, thread_main, *thread) == 0 ? EBB_OK
                                                                           : EBB_ERR_SYSTEM;
}

void ebb_thread_join(struct ebb_thread *thread) {
    pthread_join(thread->id, NULL);
    free(thread);
}
