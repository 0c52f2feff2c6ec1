/* writer -- a place that text goes to, one piece after another: a page, a file, an array. */
#ifndef EBB_WRITER_H
#define EBB_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_writer {
    void (*write)(struct ebb_writer *self, const char *bytes, size_t length);
};

void ebb_write(struct ebb_writer *writer, const char *text);
/* A single piece is cut at 4,095 bytes. */
void ebb_writef(struct ebb_writer *writer, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Text as the inside of a JSON string: quotes, backslashes and control characters
 * escaped; U+FFFD for what is not UTF-8. */
void ebb_write_json_string(struct ebb_writer *writer, const char *bytes, size_t length);

/* Collects into the caller's array; always ends in NUL; says when it was too small. */
struct ebb_array_writer {
    struct ebb_writer writer;
    char *at;
    size_t size, used;
    bool cut;
};
void ebb_array_writer_init(struct ebb_array_writer *self, char *at, size_t size);

/* Writes to a descriptor, retrying short writes; failed is set at the first error and the rest is
 * dropped. */
struct ebb_fd_writer {
    struct ebb_writer writer;
    int fd;
    bool failed;
};
void ebb_fd_writer_init(struct ebb_fd_writer *self, int fd);

__END_DECLS

#endif
