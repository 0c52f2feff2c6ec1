/* reply -- many answers, one send.
 *
 * Text is copied into one buffer, large values stay where they are; both are walked as one stream
 * of pieces. There is one walk, reply_walk, and three uses of it.
 *
 * 1. piece[].after never falls and never passes used.
 * 2. Nothing is added when the reply is full: callers ask reply_full before each step. */
#include "reply.h"

#include "number.h"

#include <ebb/assert.h>

void reply_clear(struct reply *reply) {
    memset(reply->piece, 0, reply->pieces * sizeof(reply->piece[0]));
    reply->used = reply->piece_bytes = 0;
    reply->pieces = 0;
}

void reply_bytes(struct reply *reply, const char *at, size_t length) {
    ebb_assert(length <= reply->size - reply->used, "%zu bytes, %zu of %zu used", length,
               reply->used, reply->size);
    memcpy(reply->text + reply->used, at, length);
    reply->used += length;
}

void reply_number(struct reply *reply, uint64_t number) {
    char digits[NUMBER_DIGITS_MAX];
    reply_bytes(reply, digits, number_write(digits, number));
}

void reply_line(struct reply *reply, struct ebb_span sentence) {
    reply_bytes(reply, sentence.at, sentence.length);
    reply_bytes(reply, "\r\n", 2);
}

void reply_value_head(struct reply *reply, struct ebb_span key, uint32_t flags, size_t length,
                      const uint64_t *cas) {
    ebb_assert(!reply_full(reply), "%zu of %zu used", reply->used, reply->size);
    char *at = reply->text + reply->used;
    memcpy(at, "VALUE ", 6);
    at += 6;
    memcpy(at, key.at, key.length);
    at += key.length;
    *at++ = ' ';
    at += number_write(at, flags);
    *at++ = ' ';
    at += number_write(at, length);
    if (cas) {
        *at++ = ' ';
        at += number_write(at, *cas);
    }
    *at++ = '\r';
    *at++ = '\n';
    reply->used = (size_t)(at - reply->text);
}

void reply_piece(struct reply *reply, const char *at, size_t length, const void *pin) {
    ebb_assert(reply->pieces < REPLY_PIECES_MAX, "%u pieces", reply->pieces);
    reply->piece[reply->pieces++] = (struct reply_piece){at, length, pin, reply->used};
    reply->piece_bytes += length;
}

struct reply_mark reply_mark(const struct reply *reply) {
    return (struct reply_mark){reply->used, reply->piece_bytes, reply->pieces};
}

void reply_take_back(struct reply *reply, struct reply_mark mark) {
    memset(reply->piece + mark.pieces, 0, (reply->pieces - mark.pieces) * sizeof(reply->piece[0]));
    reply->used = mark.used;
    reply->pieces = mark.pieces;
    reply->piece_bytes = mark.piece_bytes;
}

/* Calls see for each stretch of the stream from byte `sent` on; piece is NULL for text. */
static void walk(const struct reply *reply, size_t sent,
                 void (*see)(const char *at, size_t length, const struct reply_piece *piece,
                             void *context),
                 void *context) {
    size_t text = 0;
    for (unsigned i = 0; i <= reply->pieces; i++) {
        const struct reply_piece *piece = i < reply->pieces ? &reply->piece[i] : NULL;
        size_t length = (piece ? piece->after : reply->used) - text;
        if (sent < length)
            see(reply->text + text + sent, length - sent, NULL, context);
        sent = sent < length ? 0 : sent - length;
        text += length;
        if (piece == NULL)
            break;
        if (sent < piece->length)
            see(piece->at + sent, piece->length - sent, piece, context);
        sent = sent < piece->length ? 0 : sent - piece->length;
    }
}

struct vectors {
    struct iovec *at;
    int count;
};

static void see_vector(const char *at, size_t length, const struct reply_piece *piece,
                       void *context) {
    struct vectors *vectors = context;
    (void)piece;
    vectors->at[vectors->count++] = (struct iovec){(void *)(uintptr_t)at, length};
}

int reply_vectors(const struct reply *reply, size_t sent, struct iovec out[REPLY_VECTORS]) {
    struct vectors vectors = {out, 0};
    walk(reply, sent, see_vector, &vectors);
    return vectors.count;
}

static void see_text(const char *at, size_t length, const struct reply_piece *piece,
                     void *context) {
    (void)at;
    if (piece == NULL)
        *(size_t *)context += length;
}

size_t reply_text_left(const struct reply *reply, size_t sent) {
    size_t left = 0;
    walk(reply, sent, see_text, &left);
    return left;
}

static void see_carry(const char *at, size_t length, const struct reply_piece *piece,
                      void *context) {
    struct reply *to = context;
    if (piece)
        reply_piece(to, at, length, piece->pin);
    else
        reply_bytes(to, at, length);
}

void reply_carry(struct reply *to, const struct reply *from, size_t sent) {
    walk(from, sent, see_carry, to);
}
