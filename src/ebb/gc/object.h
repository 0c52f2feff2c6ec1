/* object -- what stands before each object, and the two kinds of collected memory. Internal to gc/.
 */
#ifndef EBBI_GC_OBJECT_H
#define EBBI_GC_OBJECT_H

#include <ebb/leak.h>
#include <ebb/mem.h>

/* 16 bytes, so that the object behind it stays 16-aligned. Word 0 is overwritten by the collector's
 * free lists, so what tells a live header from rubbish stands in word 1. */
struct object_header {
    uint64_t size : 38; /* as asked for */
    uint64_t born : 24; /* seconds since the collector's start; only with a site */
    uint64_t state : 2; /* enum object_state */
    uint32_t check; /* check_of(base): unguessable, so cached values cannot look like a header */
    uint16_t type;
    uint16_t site; /* 0: none taken */
};
_Static_assert(sizeof(struct object_header) == 16, "the header keeps objects 16-aligned");

enum object_state {
    OBJECT_LOST, /* unreachable without ebb_done, and counted */
    OBJECT_LIVE,
    OBJECT_DONE,
    OBJECT_POISONED
};

#define OBJECT_SIZE_MAX  ((UINT64_C(1) << 38) - 1)
#define OBJECT_BORN_MASK ((UINT32_C(1) << 24) - 1)
#define SITE_FRAMES_WALK 8 /* without full stacks: some 30 ns */
#define SITE_SHARED_BYTES                                                                          \
    2048 /* from this size on SHARED objects have a site too, for profiles                         \
          */

void ebbi_objects_start(void);
/* The header of an object's start, or NULL when it is none of ours. */
struct object_header *ebbi_object_header(const void *object);
/* For a start of collected memory (as GC_base gives it). */
struct object_header *ebbi_object_at_base(void *base);

/* Under the allocation lock: an object is unreachable. Counts it if it is lost (OWNED, without
 * ebb_done) or, in debug builds, if it was written to after ebb_done. Once for each object. */
void ebbi_object_judge(struct object_header *header);
/* lost.c: at the end of a collection, under the lock that the collector has held since its
 * beginning. */
void ebbi_lost_find(void);

/* Call sites. */
uint16_t ebbi_site_take(const struct ebb_type *type, const uintptr_t *frame, int frames);
struct ebb_site *ebbi_site_at(uint16_t site);
int ebbi_frames_walk(uintptr_t *frame, int frames_max, void *frame_address);
int ebbi_frames_unwind(uintptr_t *frame, int frames_max, void *frame_address);
void ebbi_sites_start(void);
uint16_t ebbi_site_index(const struct ebb_site *site);
/* Under the allocation lock: an OWNED object was lost. */
void ebbi_leak_count(struct ebb_type *type, struct object_header *header);
/* Under the allocation lock: it was written to after its release. */
void ebbi_used_after_done_count(struct object_header *header);
/* Coarse seconds since the collector's start. */
uint32_t ebbi_seconds(void);

/* Symbols of many sites in one session: between begin and end, ebb_site_describe is quick. */
void ebbi_symbols_begin(void);
void ebbi_symbols_end(void);
void ebbi_symbols_survive_fork(void);
/* The name of the function that the address is in; false, and nothing written, when unknown. */
bool ebbi_function_write(struct ebb_writer *out, uintptr_t at);

/* leak_metrics.c: leaks by type and call site in /metrics. */
void ebbi_leak_metrics_start(void);

/* suppress.c: does a suppression excuse the leaks of this site? Looks up names the first time. */
bool ebbi_site_excused(struct ebb_site *site);

/* environment.c: before GC_init, every variable GC_* is taken out; what the library has no function
 * for is set; after it, that is taken out as well. Told once the log is there. */
void ebbi_environment_take(void);
void ebbi_environment_set(const char *name, const char *value);
void ebbi_environment_clear(void);
void ebbi_environment_tell(void);

/* unmap.c: before GC_init. False: the system takes no pages back, and the library shall not try. */
bool ebbi_unmap_start(void);
/* Bytes that the library takes for unmapped and that are resident. */
uint64_t ebbi_unmapped_not(void);
void ebbi_unmap_tell(void);

/* stop.c: the signals that stop threads; before GC_init, and after it. */
void ebbi_stop_signals_choose(void);
void ebbi_stop_signals_guard(void);
/* thread.c: short time slices for this thread. */
void ebbi_thread_time_slice(void);

/* find_leak.c: before GC_init, so that the collector's own messages come to us. */
void ebbi_find_leak_start(void);
/* After GC_init, as ebbi_symbols_survive_fork: a fork waits for these locks, and then for the
 * collector's, in the order in which all others take them. */
void ebbi_find_leak_survive_fork(void);
/* With find_leak: around each allocation. */
void ebbi_find_leak_lock(void);
void ebbi_find_leak_unlock(void);

#endif
