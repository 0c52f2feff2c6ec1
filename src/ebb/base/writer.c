/* writer -- text in pieces, to wherever it belongs.
 *
 * A writer is one function pointer. Formatting happens on the stack, so that every place, a broken
 * heap's last report included, may use it. */
#include <ebb/writer.h>

#include "utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define PIECE_MAX 4096

void ebb_write(struct ebb_writer *writer, const char *text) {
    writer->write(writer, text, strlen(text));
}

void ebb_writef(struct ebb_writer *writer, const char *format, ...) {
    char piece[PIECE_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(piece, sizeof(piece), format, arguments);
    va_end(arguments);
    if (length <= 0)
        return;
    writer->write(writer, piece, length < PIECE_MAX ? (size_t)length : PIECE_MAX - 1);
}

/* The two-character escape of c, or NULL when it has none. */
static const char *short_escape(char c) {
    switch (c) {
    case '"':
        return "\\\"";
    case '\\':
        return "\\\\";
    case '\n':
        return "\\n";
    case '\r':
        return "\\r";
    case '\t':
        return "\\t";
    default:
        return NULL;
    }
}

void ebb_write_json_string(struct ebb_writer *writer, const char *bytes, size_t length) {
    size_t plain = 0, size; /* start of the run that needs no escape; bytes of a character */
    for (size_t i = 0; i < length; i += size ? size : 1) {
        const char *escape = short_escape(bytes[i]);
        bool control = (unsigned char)bytes[i] < 0x20 || bytes[i] == 0x7f;
        size = ebbi_utf8_length(bytes + i, length - i);
        if (escape == NULL && !control && size > 0)
            continue;
        if (i > plain)
            writer->write(writer, bytes + plain, i - plain);
        plain = i + 1;
        if (escape)
            ebb_write(writer, escape);
        else if (size == 0)
            ebb_write(writer, "\\ufffd");
        else
            ebb_writef(writer, "\\u%04x", (unsigned)(unsigned char)bytes[i]);
    }
    if (length > plain)
        writer->write(writer, bytes + plain, length - plain);
}

static void array_write(struct ebb_writer *writer, const char *bytes, size_t length) {
    struct ebb_array_writer *self = (struct ebb_array_writer *)writer;
    if (self->size == 0) {
        self->cut = self->cut || length > 0;
        return;
    }
    size_t room = self->size - 1 - self->used;
    if (length > room) {
        self->cut = true;
        length = room;
    }
    memcpy(self->at + self->used, bytes, length);
    self->used += length;
    self->at[self->used] = 0;
}

void ebb_array_writer_init(struct ebb_array_writer *self, char *at, size_t size) {
    *self = (struct ebb_array_writer){.writer = {array_write}, .at = at, .size = size};
    if (size > 0)
        at[0] = 0;
}

static void fd_write(struct ebb_writer *writer, const char *bytes, size_t length) {
    struct ebb_fd_writer *self = (struct ebb_fd_writer *)writer;
    while (length > 0 && !self->failed) {
        ssize_t written = write(self->fd, bytes, length);
        if (written < 0 && errno == EINTR)
            continue;
        if (written < 0) {
            self->failed = true;
            return;
        }
        bytes += written;
        length -= (size_t)written;
    }
}

void ebb_fd_writer_init(struct ebb_fd_writer *self, int fd) {
    *self = (struct ebb_fd_writer){.writer = {fd_write}, .fd = fd};
}
