/* heap_record -- the heap trace's making; internal to gc/. */
#ifndef EBBI_GC_HEAP_RECORD_H
#define EBBI_GC_HEAP_RECORD_H

#include <ebb/collector.h>

enum record_moment {
    RECORD_STOP,
    RECORD_MARK_START,
    RECORD_MARK_END,
    RECORD_RESUME,
    RECORD_SWEEP_START,
    RECORD_SWEEP_END,
    RECORD_MOMENTS
};

void ebbi_records_start(void);
/* All three: under the allocation lock. */
void ebbi_record_begin(enum ebb_cause cause, size_t dropped);
void ebbi_record_mark(enum record_moment moment);
void ebbi_record_end(void);

#endif
