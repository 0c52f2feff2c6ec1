/* object -- what stands before each object, and the two kinds of collected memory. Internal to gc/.
 */
#ifndef EBBI_GC_OBJECT_H
#define EBBI_GC_OBJECT_H

#include <ebb/leak.h>
#include <ebb/mem.h>

/* 16 bytes, so that the object behind it stays 16-aligned. Word 0 is overwritten by the collector's
 * free lists, so what tells a live header from rubbish stands in word 1. */
struct object_header {
    uint64_t size : 56; /* as asked for */
    uint64_t state : 8; /* enum object_state */
    uint32_t check;     /* object_check: unguessable, so cached values cannot look like a header */
    uint16_t type;
    uint16_t site; /* 0: none taken */
};
_Static_assert(sizeof(struct object_header) == 16, "the header keeps objects 16-aligned");

enum object_state { OBJECT_LIVE = 1, OBJECT_DONE = 2 };

void ebbi_objects_start(void);
/* The header of an object's start, or NULL when it is none of ours. */
struct object_header *ebbi_object_header(const void *object);
/* For a start of collected memory (as GC_base gives it). */
struct object_header *ebbi_object_at_base(void *base);

/* Call sites. */
uint16_t ebbi_site_take(const struct ebb_type *type, const uintptr_t *frame, int frames);
struct ebb_site *ebbi_site_at(uint16_t site);
int ebbi_frames_walk(uintptr_t *frame, int frames_max, void *frame_address);
int ebbi_frames_unwind(uintptr_t *frame, int frames_max);
void ebbi_sites_start(void);
/* Under the allocation lock: an OWNED object died without a goodbye. */
void ebbi_leak_count(struct ebb_type *type, struct object_header *header);

#endif
