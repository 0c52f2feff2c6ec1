/* copy -- what every forked copy of the process does first. */
#ifndef EBBI_GC_COPY_H
#define EBBI_GC_COPY_H

enum { COPY_KEEPS = 3 };

/* In the copy: keeps these descriptors (-1: none) and closes all others, is the first that the
 * kernel ends when memory runs out, and is killed with its parent or after so many seconds. */
void ebbi_copy_begin(const int keep[COPY_KEEPS], unsigned seconds_max);

#endif
