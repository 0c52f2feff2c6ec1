/* free_blocks -- large pieces of heap that were reclaimed, and are resident still. */
#ifndef EBBI_GC_FREE_BLOCKS_H
#define EBBI_GC_FREE_BLOCKS_H

#include <stddef.h>

enum { FREE_BLOCK_LEAST = 8 << 10 }; /* bytes; what is smaller is not watched */

void ebbi_free_blocks_start(void);
/* This object was reclaimed. Under the allocation lock. */
void ebbi_free_blocks_add(void *base, size_t bytes);
/* This one is new. Without the lock. */
void ebbi_free_blocks_take(void *base, size_t bytes);

#endif
