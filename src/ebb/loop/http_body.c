/* http_body -- what a page writes, until it is sent.
 *
 * A page may write megabytes, and memory may be short just when somebody looks why. What is small
 * goes into libevent's buffer, whose memory is never refused while there is a reserve; what is
 * large goes into pieces of our own, which are: they take nothing of the reserve. A body that found
 * no memory is no half of one: it becomes a 503.
 *
 * 1. A piece is held by the writer, then by the buffer that refers to it: libevent's memory is
 * scanned. */
#include "gc/types.h"
#include "http_internal.h"

#include <ebb/mem.h>
#include <event2/buffer.h>
#include <string.h>

#define SMALL_BYTES 4096
#define PIECE_BYTES (32 * 1024 - 64) /* with a header it fills its blocks */

static void piece_end(struct body_writer *self) {
    if (self->piece && self->used > 0 &&
        evbuffer_add_reference(self->buffer, self->piece, self->used, NULL, NULL) != 0)
        self->failed = true;
    self->piece = NULL;
    self->used = 0;
}

static void add_large(struct body_writer *self, const char *bytes, size_t length) {
    while (length > 0 && !self->failed) {
        if (self->piece == NULL)
            self->piece = ebb_try_sized(&ebbi_type_http_body, PIECE_BYTES);
        if (self->piece == NULL) {
            self->failed = true;
            return;
        }
        size_t room = PIECE_BYTES - self->used, take = length < room ? length : room;
        memcpy(self->piece + self->used, bytes, take);
        self->used += take;
        bytes += take;
        length -= take;
        if (self->used == PIECE_BYTES)
            piece_end(self);
    }
}

static void body_write(struct ebb_writer *writer, const char *bytes, size_t length) {
    struct body_writer *self = (struct body_writer *)writer;
    if (self->buffer == NULL || self->failed) /* NULL: the peer did not wait for its answer */
        return;
    self->length += length;
    if (self->length > SMALL_BYTES)
        add_large(self, bytes, length);
    else if (evbuffer_add(self->buffer, bytes, length) != 0)
        self->failed = true;
}

void ebbi_http_body_init(struct body_writer *self, struct evbuffer *buffer) {
    *self = (struct body_writer){.writer = {body_write}, .buffer = buffer};
}

bool ebbi_http_body_end(struct body_writer *self) {
    static const char sentence[] = "503: no memory for the answer; the log says what is short\n";
    if (self->buffer)
        piece_end(self);
    if (!self->failed)
        return true;
    evbuffer_drain(self->buffer, evbuffer_get_length(self->buffer));
    evbuffer_add(self->buffer, sentence, sizeof(sentence) - 1);
    return false;
}
