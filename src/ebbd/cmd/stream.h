/* stream -- answers that take many time slices; for dump.c and watchers.c. */
#ifndef EBBD_CMD_STREAM_H
#define EBBD_CMD_STREAM_H

#include "cmd.h"

#include <ebb/mem.h>

#define EBB_TYPE EBB_TYPE_DECLARE
#include "tbl/types.def"

struct watcher;

struct cmd_stream {
    enum cmd_step (*step)(struct cmd_context *cmd, struct cmd_stream *stream);
    void (*close)(struct cmd_stream *stream); /* NULL: nothing to close */
    struct cmd_context *cmd;                  /* during a step */
    struct store_scan scan;
    bool huge, ordinary; /* which items a dump shows */
    uint64_t last;       /* connection that was shown last */
    uint32_t left;       /* lines that may still be shown; a histogram's next line */
    bool (*show)(struct cmd_stream *stream, struct ebb_span key, const struct store_item *item);
    uint32_t *sizes; /* a histogram, pointer-free */
    struct watcher *watch;
};

/* Zeroed. NULL: there is no memory, and that is the answer. */
struct cmd_stream *stream_try(struct cmd_context *cmd);
/* Makes it the answer. */
enum cmd_result stream_begin(struct cmd_context *cmd, struct cmd_stream *stream);
/* Percent-encodes key at `at` (room for 3 times its length); returns the end. */
char *stream_write_uri(char *at, struct ebb_span key);

#define DUMP_CLASSES_MAX 63 /* memcached's: a greater class is none */

/* dump.c */
enum cmd_result dump_sizes(struct cmd_context *cmd);
enum cmd_result dump_cache(struct cmd_context *cmd, uint32_t class_id, uint32_t limit);

#endif
