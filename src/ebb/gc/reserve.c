/* reserve -- memory kept for small objects when the system gives no more.
 *
 * A cache takes all the memory that there is. When the system refuses the next block (ulimit -v,
 * LimitAS=, overcommit), a connection of some hundred bytes finds no room beside hundreds of MiB of
 * items, and no collection helps: the items live. So some pieces of memory are set aside at the
 * start. A small object that is refused gets one of them: it is freed, and the collector makes
 * blocks for small objects of it. From then on the reserve is short. Large objects, which is what
 * fills a heap, are refused until it is whole again, so that the program lets go of some
 * (ebb_memory_short) and what they leave comes here first.
 *
 * libgc needs memory of its own besides, for what it knows of each block, and takes it badly when
 * the system refuses that: a block that it cannot split is lost for ever, and the first object of a
 * size leaves a block that the marker faults on. So each size is used once at the start, and some
 * address space is kept for libgc alone: at the first refusal the heap is told not to grow any
 * more, and the address space is let go of. It is taken back, and the heap may grow again, once
 * there is as much more than that (limits are changed, too).
 *
 * 1. The static array alone holds the pieces. They are pointer-free and never written to.
 * 2. Large objects, and those that are held by their start only, take nothing of the reserve.
 * 3. Objects that may be refused leave the last pieces to those that may not.
 * 4. Opening a piece allocates nothing and takes no lock but the collector's. */
#include "gc/reserve.h"
#include "gc/types.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"
#include <ebb/collector.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>

enum {
    PIECES = 16,
    PIECES_LAST = 4,
    PIECE_BYTES = (32 << 10) - 32, /* fills its blocks, with a header and the collector's byte */
    LARGE = 16 << 10,
    SIZES_MOST = 2048, /* bytes: larger objects are all of a kind to libgc */
    SIZES_STEP = 16,
    SPACE_BYTES = 512 << 10,
};

static _Atomic(void *) pieces[PIECES];
static _Atomic int given; /* pieces that are missing */
static _Atomic bool missed;
static _Atomic(const struct ebb_type *) opened_by; /* not told yet */
static _Atomic size_t opened_size;
static pthread_mutex_t space_lock = PTHREAD_MUTEX_INITIALIZER;
static void *space; /* NULL: libgc has it, and the heap does not grow */

static bool is_large(const struct ebb_type *type, size_t size) {
    return size >= LARGE || type->scan == EBB_BYTES_BY_START;
}

static void use_each_size(void) {
    for (size_t size = SIZES_STEP; size < SIZES_MOST; size += SIZES_STEP)
        GC_free(GC_malloc_atomic(size));
    GC_gcollect();
}

/* Written to by nobody, so it is not resident. */
static void *space_map(size_t bytes) {
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

void ebbi_reserve_refused(void) {
    pthread_mutex_lock(&space_lock);
    if (space) {
        GC_set_max_heap_size(GC_get_heap_size());
        munmap(space, SPACE_BYTES);
        space = NULL;
    }
    pthread_mutex_unlock(&space_lock);
}

static void space_take(void) {
    pthread_mutex_lock(&space_lock);
    if (space == NULL && (space = space_map(2 * SPACE_BYTES)) != NULL) {
        munmap((char *)space + SPACE_BYTES, SPACE_BYTES);
        GC_set_max_heap_size(0);
    }
    pthread_mutex_unlock(&space_lock);
}

static bool fill(void) {
    for (int i = 0; i < PIECES && atomic_load(&given) > 0; i++) {
        void *nothing = NULL;
        if (atomic_load(&pieces[i]) != NULL)
            continue;
        void *piece = ebbi_reserve_piece(PIECE_BYTES);
        if (piece == NULL)
            return false;
        if (!atomic_compare_exchange_strong(&pieces[i], &nothing, piece))
            continue; /* somebody else was faster, and this one is garbage */
        atomic_fetch_sub(&given, 1);
        ebb_gauge_add(&ebb_metric_reserve_used, -PIECE_BYTES);
    }
    return true;
}

void ebbi_reserve_start(void) {
    atomic_store(&given, PIECES);
    ebb_gauge_set(&ebb_metric_reserve_used, (int64_t)PIECES * PIECE_BYTES);
    use_each_size();
    space_take();
    GC_expand_hp((size_t)PIECES * (PIECE_BYTES + 32)); /* it takes nothing of the initial heap */
    fill();
}

bool ebbi_reserve_allows(const struct ebb_type *type, size_t size, enum ebbi_need need) {
    return need != NEED_CAN_WAIT || !is_large(type, size) || fill();
}

bool ebbi_reserve_open(const struct ebb_type *type, size_t size, enum ebbi_need need) {
    if (need == NEED_RESERVE)
        return false;
    for (int i = need == NEED_CAN_WAIT ? PIECES_LAST : 0; i < PIECES && !is_large(type, size);
         i++) {
        void *piece = atomic_exchange(&pieces[i], NULL);
        if (piece == NULL)
            continue;
        ebbi_reserve_piece_free(piece);
        atomic_fetch_add(&given, 1);
        ebb_gauge_add(&ebb_metric_reserve_used, PIECE_BYTES);
        atomic_store(&opened_size, size);
        atomic_store(&opened_by, type);
        return true;
    }
    if (type->scan != EBB_BYTES_BY_START)
        atomic_store(&missed, true);
    return false;
}

bool ebb_memory_short(void) {
    if (__atomic_load_n(&space, __ATOMIC_RELAXED) == NULL)
        space_take();
    if (atomic_load_explicit(&given, memory_order_relaxed) == 0 &&
        !atomic_load_explicit(&missed, memory_order_relaxed))
        return false;
    return atomic_exchange(&missed, false) || !fill();
}

void ebbi_reserve_tell(void) {
    if (atomic_load_explicit(&opened_by, memory_order_relaxed) == NULL)
        return;
    const struct ebb_type *type = atomic_exchange(&opened_by, NULL);
    if (type)
        ebb_log_event(reserve_opened, type->name, atomic_load(&opened_size));
}
