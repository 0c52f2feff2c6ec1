/* walk -- every object that was live at the latest collection; internal to gc/. */
#ifndef EBBI_GC_WALK_H
#define EBBI_GC_WALK_H

#include "gc/object.h"

/* header: NULL for what is none of ours (the collector's own objects, freed cells). Under the
 * allocation lock: see allocates nothing. */
void ebbi_heap_walk(void (*see)(void *base, size_t cell, const struct object_header *header,
                                void *context),
                    void *context);

#endif
