/* span -- some bytes that somebody else owns. */
#ifndef EBB_SPAN_H
#define EBB_SPAN_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_span {
    const char *at;
    size_t length; /* bytes */
};

#define EBB_SPAN(literal) ((struct ebb_span){literal, sizeof(literal) - 1})

static inline struct ebb_span ebb_span_of(const char *text) {
    return (struct ebb_span){text, strlen(text)};
}

static inline bool ebb_span_equal(struct ebb_span a, struct ebb_span b) {
    return a.length == b.length && memcmp(a.at, b.at, a.length) == 0;
}

__END_DECLS

#endif
