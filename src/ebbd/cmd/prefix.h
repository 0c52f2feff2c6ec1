/* prefix -- gets, hits, sets and deletes by the beginning of the key, for `stats detail`. */
#ifndef EBBD_CMD_PREFIX_H
#define EBBD_CMD_PREFIX_H

#include "cmd.h"

#include <stdatomic.h>

extern _Atomic bool prefix_counts;

static inline bool prefix_on(void) {
    return __builtin_expect(atomic_load_explicit(&prefix_counts, memory_order_relaxed), 0);
}

enum prefix_event { PREFIX_GET, PREFIX_HIT, PREFIX_SET, PREFIX_DELETE, PREFIX_EVENTS };

/* When prefix_on. A get that hits counts as PREFIX_GET and as PREFIX_HIT. */
void prefix_count(struct ebb_span key, enum prefix_event event);
void prefix_switch(bool on);
/* Forgets all. */
void prefix_reset(void);
/* A beginning ends before this; text of one character. -D: also switches on. */
const char *prefix_delimiter(void);
void prefix_delimiter_set(const char *delimiter);
/* Answers the lines from the at-th prefix on; false: through, else *at is where to go on. */
bool prefix_dump(struct reply *reply, uint32_t *at);

#endif
