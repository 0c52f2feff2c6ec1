/* metaflags -- answers to meta commands: a code of two letters, then flags in the order asked. */
#ifndef EBBD_CMD_METAFLAGS_H
#define EBBD_CMD_METAFLAGS_H

#include "cmd.h"
#include "proto/meta.h"

/* An item as its flags tell it. T and N change it on the way, as they stand between the others. */
struct metaflags_item {
    struct ebb_span key;
    bool key_is_base64;
    bool created; /* by N, just now */
    bool won;     /* the asker shall recache; filled in */
    bool known;   /* C: the asker has this version, so v is left out */
    struct store_item item;
};

/* Answers "VA length" (for v, unless known) or "HD", the flags, win flags and CRLF. shows:
 * META_FLAG of the flags that this command tells. */
void metaflags_answer(const struct cmd_context *cmd, const struct meta *meta, uint64_t shows,
                      struct metaflags_item *item);
/* What metaflags_answer would do to item, without an answer. */
void metaflags_apply(const struct cmd_context *cmd, const struct meta *meta, uint64_t shows,
                     struct metaflags_item *item);
/* Answers code (two letters) with O and k, which need no item. */
void metaflags_answer_code(struct cmd_context *cmd, const struct meta *meta, const char *code);
/* Writes " k" and the key. */
char *metaflags_write_key(char *at, struct ebb_span key, bool is_base64);

#endif
