/* reply -- answers that wait to be sent: text, and between it pieces of memory that are sent from
 * where they lie.
 *
 * The stream is: text up to piece[0].after, piece[0], text up to piece[1].after, piece[1], ..., the
 * rest of the text. A reply must lie in scanned memory: its pins hold the pieces. */
#ifndef EBBD_PROTO_REPLY_H
#define EBBD_PROTO_REPLY_H

#include <ebb/span.h>
#include <stdint.h>
#include <sys/uio.h>

#define REPLY_TEXT_SIZE  (256 * 1024) /* bytes of text in one reply */
#define REPLY_ROOM       (32 * 1024) /* bytes that any one step of a command may add: see reply_full */
#define REPLY_PIECES_MAX 32
#define REPLY_VECTORS    (2 * REPLY_PIECES_MAX + 1)

struct reply_piece {
    const char *at;
    size_t length;
    const void *pin; /* keeps it from being collected */
    size_t after;    /* offset in text */
};

struct reply {
    char *text; /* pointer-free */
    size_t used, size;
    unsigned pieces;
    size_t piece_bytes; /* sum of their lengths */
    struct reply_piece piece[REPLY_PIECES_MAX];
};

static inline size_t reply_length(const struct reply *reply) {
    return reply->used + reply->piece_bytes;
}

/* True: send it before the next step of a command, which adds at most REPLY_ROOM bytes of text and
 * one piece. */
static inline bool reply_full(const struct reply *reply) {
    return reply->used + REPLY_ROOM > reply->size || reply->pieces == REPLY_PIECES_MAX;
}

/* Forgets everything, the pins too. */
void reply_clear(struct reply *reply);

void reply_bytes(struct reply *reply, const char *at, size_t length);
void reply_number(struct reply *reply, uint64_t number);
/* The sentence and CRLF. */
void reply_line(struct reply *reply, struct ebb_span sentence);
/* "VALUE key flags length [cas]" and CRLF. cas NULL: without. */
void reply_value_head(struct reply *reply, struct ebb_span key, uint32_t flags, size_t length,
                      const uint64_t *cas);
void reply_piece(struct reply *reply, const char *at, size_t length, const void *pin);

/* Where a reply stood, to take back what was added since. */
struct reply_mark {
    size_t used, piece_bytes;
    unsigned pieces;
};
struct reply_mark reply_mark(const struct reply *reply);
void reply_take_back(struct reply *reply, struct reply_mark mark);

/* The stream from byte `sent` on. Returns how many vectors were filled; out lies in scanned memory
 * (a stack). */
int reply_vectors(const struct reply *reply, size_t sent, struct iovec out[REPLY_VECTORS]);

/* Bytes of text that the stream still has from byte `sent` on. */
size_t reply_text_left(const struct reply *reply, size_t sent);
/* Copies what is unsent of `from` into `to`, whose text has room for reply_text_left. */
void reply_carry(struct reply *to, const struct reply *from, size_t sent);

#endif
