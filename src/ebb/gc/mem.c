/* mem -- typed objects over the collector.
 *
 * Collected objects come from two kinds of our own (scanned, pointer-free) which both have a
 * disclaim procedure: the collector calls it for each object that it is about to reclaim. That call
 * keeps the census (the objects that are gone). Lost ones are found there too, but not all: those
 * among many living ones are never reclaimed, and lost.c finds them. FOREIGN objects are
 * uncollectable and scanned: roots.
 *
 * 1. Every object of ours has a header with a valid check; disclaim wipes the check, so an object
 * is counted as gone once, however often the collector looks at its free cell.
 * 2. allocated - gone = what the heap holds of a type, garbage not yet reclaimed included.
 * 3. disclaim runs under the allocation lock, in any thread: it allocates nothing and takes no
 * lock.
 * 4. With find_leak ebb_done frees at once, as the collector demands; its report pass comes before
 * disclaim, which then keeps the OWNED objects that did not fit into the report, for the next one
 * (find_leak.c).
 * 5. In debug builds a done object is filled with POISON, which must still be there when it is
 * judged.
 * 6. An unreachable object is judged once: its state says so. */
#include "gc/object.h"
#include "gc/reserve.h"
#include "gc/free_blocks.h"
#include "gc/start.h"
#include "gc/types.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"
#include <ebb/assert.h>
#include <ebb/collector.h>
#include <ebb/err.h>
#include <ebb/hash.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>
#include <gc/gc_disclaim.h>
#include <gc/gc_mark.h>

enum { POISON = 0xDB, CALLERS_TOLD = 3, CALLERS_NAMED = 16 };

static unsigned kind_pointers, kind_bytes;
static uint32_t check_seed;

static uint32_t check_of(const void *base) {
    uint64_t mixed = ((uintptr_t)base ^ check_seed) * 0x9E3779B97F4A7C15ull;
    return (uint32_t)(mixed >> 32) ^ check_seed;
}

static void count(_Atomic uint64_t *counter, uint64_t add) {
    atomic_fetch_add_explicit(counter, add, memory_order_relaxed);
}

static void count_gone(struct object_header *header, struct ebb_type *type) {
    count(&type->gone, 1);
    count(&type->gone_bytes, header->size);
    if (header->site != 0) {
        struct ebb_site *site = ebbi_site_at(header->site);
        count(&site->gone, 1);
        count(&site->gone_bytes, header->size);
    }
}

static bool poison_broken(const struct object_header *header) {
    const unsigned char *byte = (const unsigned char *)(header + 1);
    for (size_t i = 0; i < header->size; i++)
        if (byte[i] != POISON)
            return true;
    return false;
}

static bool is_lost(const struct object_header *header) {
    return header->state == OBJECT_LIVE && ebbi_type_at(header->type)->lifetime == EBB_OWNED;
}

void ebbi_object_judge(struct object_header *header) {
    if (is_lost(header) && ebb_collector_profile()->leak_watch) {
        ebbi_leak_count(ebbi_type_at(header->type), header);
        header->state = OBJECT_LOST;
    } else if (EBB_DEBUG && header->state == OBJECT_POISONED) {
        if (poison_broken(header))
            ebbi_used_after_done_count(header);
        header->state = OBJECT_DONE;
    }
}

static int GC_CALLBACK disclaim(void *base) {
    struct object_header *header = base;
    if (header->check != check_of(base))
        return 0; /* a free cell, or one that was never handed out */
    if (ebb_collector_profile()->find_leak && is_lost(header))
        return 1; /* it stays until the collector's own report had room for it */
    ebbi_object_judge(header);
    count_gone(header, ebbi_type_at(header->type));
    header->check = 0;
    if (header->size >= FREE_BLOCK_LEAST)
        ebbi_free_blocks_add(base, sizeof *header + header->size);
    return 0;
}

void ebbi_objects_start(void) {
    check_seed = (uint32_t)ebb_hash_seed() | 1;
    int find_leak = GC_get_find_leak();
    /* With find_leak a freed cell must keep its header until find_leak.c has read it, so cells are
     * then cleared when they are handed out instead. */
    kind_pointers = GC_new_kind(GC_new_free_list(), GC_DS_LENGTH, 1, !find_leak);
    kind_bytes = GC_new_kind(GC_new_free_list(), 0, 0, 0);
    GC_set_find_leak(0); /* a procedure is refused while it is on */
    GC_register_disclaim_proc((int)kind_pointers, disclaim, 0);
    GC_register_disclaim_proc((int)kind_bytes, disclaim, 0);
    GC_set_find_leak(find_leak);
    GC_register_displacement(sizeof(struct object_header));
    ebbi_free_blocks_start();
    ebbi_types_add_own();
}

struct object_header *ebbi_object_at_base(void *base) {
    struct object_header *header = base;
    return header->check == check_of(base) ? header : NULL;
}

struct object_header *ebbi_object_header(const void *object) {
    char *base = GC_base((void *)(uintptr_t)object);
    if (base == NULL || base + sizeof(struct object_header) != (const char *)object)
        return NULL;
    return ebbi_object_at_base(base);
}

static void *from_collector(const struct ebb_type *type, size_t size) {
    if (type->lifetime == EBB_FOREIGN)
        return GC_malloc_uncollectable(size);
    if (type->scan == EBB_BYTES_BY_START)
        return GC_generic_malloc_ignore_off_page(size, (int)kind_bytes);
    return GC_generic_malloc(size, (int)(type->scan == EBB_BYTES ? kind_bytes : kind_pointers));
}

/* Twice: the out-of-memory hook has collected after the first refusal. */
static struct object_header *cell_take(const struct ebb_type *type, size_t size) {
    bool find_leak = ebb_collector_profile()->find_leak;
    if (find_leak)
        ebbi_find_leak_lock();
    void *cell = from_collector(type, size);
    if (cell == NULL)
        cell = from_collector(type, size);
    if (find_leak) {
        if (cell && type->scan == EBB_POINTERS)
            memset(cell, 0, size);
        ebbi_find_leak_unlock();
    }
    return cell;
}

static uint16_t take_site(const struct ebb_type *type, size_t size, void *frame_address) {
    uintptr_t frame[EBB_SITE_FRAMES];
    int frames = ebb_collector_profile()->full_stacks
                     ? ebbi_frames_unwind(frame, EBB_SITE_FRAMES, frame_address)
                     : ebbi_frames_walk(frame, SITE_FRAMES_WALK, frame_address);
    uint16_t site = ebbi_site_take(type, frame, frames);
    count(&ebbi_site_at(site)->allocated, 1);
    count(&ebbi_site_at(site)->allocated_bytes, size);
    return site;
}

static bool wants_site(const struct ebb_type *type, size_t size) {
    return ebb_collector_profile()->leak_watch &&
           (type->lifetime != EBB_SHARED || size >= SITE_SHARED_BYTES);
}

static struct object_header *cell_find(const struct ebb_type *type, size_t size,
                                       enum ebbi_need need) {
    if (!ebbi_reserve_allows(type, size, need))
        return NULL;
    struct object_header *cell;
    do
        cell = cell_take(type, size);
    while (cell == NULL && ebbi_reserve_open(type, size, need));
    return cell;
}

/* frame_address: of the public function's frame, whose return address is the call site. */
static void *allocate(struct ebb_type *type, size_t size, enum ebbi_need need,
                      void *frame_address) {
    ebb_assert(type->id != 0, "type %s was never added: see ebb_types_add", type->name);
    if (size > OBJECT_SIZE_MAX)
        return NULL;
    struct object_header *header = cell_find(type, sizeof *header + size, need);
    if (header == NULL)
        return NULL;
    if (size >= FREE_BLOCK_LEAST) {
        ebbi_free_blocks_take(header, sizeof *header + size);
        ebb_stack_clear(); /* the collector may have copied the list of its heap's sections too */
    }
    bool sited = wants_site(type, size);
    uint16_t site = sited ? take_site(type, size, frame_address) : 0;
    count(&type->allocated, 1);
    count(&type->allocated_bytes, size);
    header->size = size & OBJECT_SIZE_MAX;
    header->born = sited ? ebbi_seconds() & OBJECT_BORN_MASK : 0;
    header->state = OBJECT_LIVE;
    header->type = (uint16_t)type->id;
    header->site = site;
    header->check = check_of(header);
    return header + 1;
}

void *ebb_try_sized(struct ebb_type *type, size_t size) {
    void *object = allocate(type, size, NEED_CAN_WAIT, __builtin_frame_address(0));
    if (object == NULL)
        ebb_count(&ebb_metric_memory_refused, 1);
    return object;
}

static void refuse_start(const struct ebb_type *type, size_t size) {
    ebb_err_set(EBB_ERR_SYSTEM,
                "no memory to start with: the system refuses %zu bytes (%s); " EBBI_MEMORY_REMEDY,
                size, type->name);
    ebbi_start_refuse();
}

void *ebb_new_sized(struct ebb_type *type, size_t size) {
    void *object = allocate(type, size, NEED_NOW, __builtin_frame_address(0));
    if (object == NULL)
        refuse_start(type, size);
    ebb_assert(object != NULL, "no memory for %s of %zu bytes; the heap holds %zu bytes",
               type->name, size, GC_get_heap_size());
    return object;
}

void *ebb_bytes(size_t size) {
    return ebb_new_sized(&ebbi_type_bytes, size);
}

void *ebb_try_bytes(size_t size) {
    return ebb_try_sized(&ebbi_type_bytes, size);
}

/* Where the object was made, as far as its header says. */
static const char *made_at(const struct object_header *header) {
    return header->site ? ebb_site_label(ebbi_site_at(header->site)) : "an unknown place";
}

/* The caller of the public function of that frame. Names take a look-up each: the first ones have
 * them. */
static void describe_caller(void *frame_address, char *out, size_t size) {
    static _Atomic uint32_t described;
    struct ebb_site site = {.type = NULL};
    ebbi_frames_walk(site.frame, CALLERS_TOLD, frame_address);
    if (atomic_fetch_add_explicit(&described, 1, memory_order_relaxed) < CALLERS_NAMED)
        ebb_site_describe(&site, CALLERS_TOLD, out, size);
    else
        snprintf(out, size, "%#" PRIxPTR, site.frame[0]);
}

static void misuse(struct ebb_metric *metric, const void *object, const char *what,
                   const struct object_header *header, void *frame_address) {
    const char *type = header ? ebbi_type_at(header->type)->name : "no object of ours";
    const char *place = header ? made_at(header) : "nowhere";
    char caller[512];
    ebb_count(metric, 1);
    describe_caller(frame_address, caller, sizeof caller);
    ebb_assert(!EBB_DEBUG, "%p (%s, made in %s): %s, by %s", object, type, place, what, caller);
    ebb_log_event(misuse, object, type, place, what, caller);
}

uint64_t ebb_misuse_count(void) {
    return ebb_metric_value(&ebb_metric_misuse_done_twice) +
           ebb_metric_value(&ebb_metric_misuse_foreign_pointer) +
           ebb_metric_value(&ebb_metric_misuse_use_after_done);
}

/* poison: whether nobody may come late. */
static void done(const void *object, bool poison, void *frame_address) {
    if (object == NULL)
        return;
    struct object_header *header = ebbi_object_header(object);
    if (header == NULL) {
        misuse(&ebb_metric_misuse_foreign_pointer, object, "ebb_done of a foreign pointer", NULL,
               frame_address);
        return;
    }
    struct ebb_type *type = ebbi_type_at(header->type);
    if (type->lifetime != EBB_OWNED) {
        misuse(&ebb_metric_misuse_foreign_pointer, object, "ebb_done of what is not OWNED", header,
               frame_address);
        return;
    }
    if (header->state != OBJECT_LIVE) {
        misuse(&ebb_metric_misuse_done_twice, object, "ebb_done for the second time", header,
               frame_address);
        return;
    }
    header->state = OBJECT_DONE;
    count(&type->done, 1);
    if (GC_get_find_leak()) {
        count_gone(header, type);
        header->check = 0;
        GC_free(header);
    } else if (EBB_DEBUG && poison) {
        header->state = OBJECT_POISONED;
        memset(header + 1, POISON, header->size);
    }
}

void ebb_done(const void *object) {
    done(object, true, __builtin_frame_address(0));
}

void ebb_done_late(const void *object) {
    done(object, false, __builtin_frame_address(0));
}

bool ebb_check_live(const void *object, const char *file, int line) {
    const struct object_header *header = ebbi_object_header(object);
    if (header && header->state == OBJECT_LIVE)
        return true;
    char what[160];
    snprintf(what, sizeof what, "%s:%d: used %s", file, line,
             header ? "after ebb_done" : "although it is not alive");
    misuse(&ebb_metric_misuse_use_after_done, object, what, header, __builtin_frame_address(0));
    return false;
}

static void free_now(void *object) {
    struct object_header *header = (struct object_header *)object - 1;
    ebb_assert(header->check == check_of(header), "%p is no object of ours", object);
    count_gone(header, ebbi_type_at(header->type));
    header->check = 0;
    GC_free(header);
}

void ebb_foreign_free(void *object) {
    if (object != NULL)
        free_now(object);
}

void *ebbi_reserve_piece(size_t size) {
    return allocate(&ebbi_type_reserve, size, NEED_RESERVE, __builtin_frame_address(0));
}

void ebbi_reserve_piece_free(void *piece) {
    free_now(piece);
}

void *ebb_foreign_realloc(struct ebb_type *type, void *object, size_t size) {
    void *fresh = allocate(type, size, NEED_LIBRARY, __builtin_frame_address(0));
    if (object == NULL || fresh == NULL)
        return fresh;
    struct object_header *old = (struct object_header *)object - 1;
    memcpy(fresh, object, old->size < size ? old->size : size);
    ebb_foreign_free(object);
    return fresh;
}

const struct ebb_type *ebb_type_of(const void *object, size_t *size) {
    struct object_header *header = ebbi_object_header(object);
    if (header == NULL)
        return NULL;
    if (size)
        *size = header->size;
    return ebbi_type_at(header->type);
}

void ebb_root_add(void *at, size_t size) {
    GC_add_roots(at, (char *)at + size);
}

void ebb_root_remove(void *at, size_t size) {
    GC_remove_roots(at, (char *)at + size);
}
