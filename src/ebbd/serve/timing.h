/* timing -- how long requests take, and which slices were the slowest; see timing.c. */
#ifndef EBBD_SERVE_TIMING_H
#define EBBD_SERVE_TIMING_H

#include "proto/request.h"

#include <ebb/writer.h>
#include <stdatomic.h>

#define TIMING_TEXT    48 /* bytes of a request: the command and the start of its key */
#define TIMING_SLOWEST 16 /* slices remembered for each worker */

/* One slow slice. */
struct timing_slow {
    uint64_t unix_ns;  /* for people */
    uint64_t ended_ns; /* for how long it is remembered, whatever the wall clock is set to */
    uint64_t queue_ns; /* from the moment the loop saw its bytes to its slice */
    uint64_t store_ns; /* reading, and carrying out */
    uint64_t send_ns;
    uint64_t bytes;    /* in and out */
    uint32_t requests; /* that were pipelined in it */
    char text[TIMING_TEXT];
};

enum timing_class {
#define EBB_CLASS(id) TIMING_CLASS_##id,
#include "tbl/classes.def"
    TIMING_CLASSES
};

extern const uint8_t timing_class_of[REQUEST_VERBS];

/* A worker's. Only its thread writes. */
struct timing {
    uint32_t sample_every; /* 0: no clock is read */
    uint32_t until_sample, random;
    bool sampled, measured;                       /* the present slice */
    bool sure;                                    /* it is measured whether sampled or not */
    uint32_t unobserved[TIMING_CLASSES];          /* its requests that are in no histogram yet */
    uint64_t collections;                         /* when it began */
    uint64_t ready_ns, begin_ns, done_ns, end_ns; /* of the present slice */
    struct {
        _Atomic uint32_t version; /* odd: being written */
        struct timing_slow slice;
    } slowest[TIMING_SLOWEST];
};

/* A slice, as it was. */
struct timing_slice {
    enum request_verb verb; /* of its first request */
    const char *text;       /* its first request, or NULL */
    size_t length;          /* bytes that may be read at text */
    uint64_t bytes;
    uint32_t requests;
};

/* number: of the worker. */
void timing_init(struct timing *timing, uint32_t sample_every, int number);

/* The slice begins; ready_ns: when the loop saw its bytes. */
void timing_begin(struct timing *timing, uint64_t ready_ns);
/* A request is carried out. */
static inline void timing_carried_out(struct timing *timing, enum request_verb verb) {
    timing->unobserved[timing_class_of[verb]]++;
}
/* What was carried out so far is sent, and more will be. */
void timing_sent(struct timing *timing);
/* Its requests are carried out, and sending begins; large: it was so much that it may be slow. */
void timing_done(struct timing *timing, bool large);
/* It is over. */
void timing_end(struct timing *timing, const struct timing_slice *slice);

/* The start of a request: of its line, or of a binary frame in the words of the text protocol, with
 * '?' for what is not printable. length: bytes that may be read at request. */
void timing_text(char out[TIMING_TEXT], const char *request, size_t length);

/* The slowest slices of these workers, slowest first, as JSON. Any thread. */
void timing_write_slowest(struct timing *const *worker_list, int count, struct ebb_writer *writer);

#endif
