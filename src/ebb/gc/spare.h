/* spare -- large pieces of heap that were reclaimed, and are resident still. */
#ifndef EBBI_GC_SPARE_H
#define EBBI_GC_SPARE_H

#include <stddef.h>

enum { SPARE_LEAST = 8 << 10 }; /* bytes; what is smaller is not watched */

void ebbi_spare_start(void);
/* This object was reclaimed. Under the allocation lock. */
void ebbi_spare_add(void *base, size_t bytes);
/* This one is new. Without the lock. */
void ebbi_spare_take(void *base, size_t bytes);

#endif
