/* trace -- what happened when, for a few seconds, to be opened in a trace viewer.
 *
 * While nobody traces, ebb_trace_on costs a load and a branch. While somebody does, slices and
 * counters go into memory that was given at the beginning; when it is full, further ones are only
 * counted. Names and value names are static text. */
#ifndef EBB_TRACE_H
#define EBB_TRACE_H

#include <ebb/writer.h>
#include <ebb/atomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

/* Where a slice is shown. Slices of one track nest or follow each other. */
enum ebb_trace_track {
    EBB_TRACK_THREAD, /* this thread's own */
    EBB_TRACK_COLLECTIONS,
    EBB_TRACK_EVICTIONS,
};

#define EBB_TRACE_TEXT 48

struct ebb_trace_event {
    const char *name;
    uint64_t begin_ns, length_ns; /* length: of a counter, its value */
    const char *value_name;       /* NULL: no value */
    uint64_t value;
    int thread;
    uint8_t track;
    bool is_counter;
    EBB_ATOMIC(bool) ready;
    char text[EBB_TRACE_TEXT];
};

struct ebb_trace {
    uint64_t begin_ns;
    uint32_t size; /* events that fit */
    EBB_ATOMIC(uint32_t) used;
    EBB_ATOMIC(uint32_t) lost; /* that did not fit */
    struct ebb_trace_event event[];
};

extern EBB_ATOMIC(struct ebb_trace *) ebb_trace_now; /* NULL: nobody traces */

static inline bool ebb_trace_on(void) {
    return atomic_load_explicit(&ebb_trace_now, memory_order_relaxed) != NULL;
}

/* Begins with memory that is collected or stays for good: a late writer may still hold it after
 * the end. False: somebody traces already. */
bool ebb_trace_begin(void *memory, size_t bytes);
/* Ends it and hands the memory back, or NULL when nobody traced. */
struct ebb_trace *ebb_trace_end(void);

/* Any thread; allocates nothing. text (NULL: none) is copied, cut at EBB_TRACE_TEXT - 1 bytes. */
void ebb_trace_slice(enum ebb_trace_track track, const char *name, uint64_t begin_ns,
                     uint64_t end_ns, const char *text, const char *value_name, uint64_t value);
void ebb_trace_counter(const char *name, uint64_t value);

/* As Chrome trace events, in JSON; for Perfetto and chrome://tracing. After the end. */
void ebb_trace_write_json(const struct ebb_trace *trace, struct ebb_writer *writer);

__END_DECLS

#endif
