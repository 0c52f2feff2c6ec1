/* meta_incr -- ma: incr and decr that may create the number, compare a cas, set an expiry.
 *
 * 1. An opaque that is too long is noticed when the answer is made, as in memcached: the number has
 * changed by then. */
#include "incr.h"
#include "metaflags.h"

#include "metrics.h"

#define FLAGS_SHOWN                                                                                \
    (META_FLAG('t') | META_FLAG('c') | META_FLAG('O') | META_FLAG('k') | META_FLAG('T') |          \
     META_FLAG('N'))

static struct metaflags_item shown(const struct meta *meta, const struct delta *delta,
                                   bool created) {
    return (struct metaflags_item){
        .key = meta->key,
        .key_is_base64 = meta->key_is_base64,
        .created = created,
        .item = {.value_length = delta->digits_count,
                 .expires = created ? 0 : delta->expires_before,
                 .cas = delta->cas},
    };
}

static enum store_verdict create(struct cmd_context *cmd, const struct meta *meta,
                                 struct delta *delta) {
    struct metaflags_item item = shown(meta, delta, true);
    metaflags_apply(cmd, meta, FLAGS_SHOWN, &item);
    struct store_new new = {.expires = item.item.expires,
                            .cas = meta->cas_new,
                            .item_flags = meta->key_is_base64 ? STORE_KEY_BASE64 : 0};
    return delta_create(cmd, meta->key, meta->initial, &new, delta);
}

static struct delta delta_of(const struct cmd_context *cmd, const struct meta *meta) {
    return (struct delta){
        .negative = meta->mode == 'D' || meta->mode == '-',
        .amount = meta->delta,
        .cas_wanted = meta->cas,
        .cas_new = meta->cas_new,
        .sets_expires = (meta->reached & META_FLAG('T')) != 0,
        .expires = exptime_second(&cmd->shared->clock, meta->ttl, cmd->now),
        .creates = meta_has(meta, 'N'),
    };
}

static struct ebb_span check(const struct meta *meta) {
    if (meta->error.length > 0)
        return meta->error;
    if (meta->mode != 0 && memchr("ID+-", meta->mode, 4) == NULL)
        return EBB_SPAN("CLIENT_ERROR invalid mode for ma M token");
    return EBB_SPAN("");
}

static void answer(struct cmd_context *cmd, const struct meta *meta, const struct delta *delta,
                   bool created) {
    struct metaflags_item item = shown(meta, delta, created);
    if (meta_has(meta, 'q'))
        return;
    metaflags_answer(cmd, meta, FLAGS_SHOWN, &item);
    if (!meta_has(meta, 'v'))
        return;
    reply_bytes(cmd->reply, delta->digits, delta->digits_count);
    reply_bytes(cmd->reply, "\r\n", 2);
}

enum cmd_result cmd_ma(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    (void)block;
    struct meta meta;
    meta_parse(REQUEST_ma, request->keys, &meta);
    struct ebb_span error = check(&meta);
    if (error.length > 0) {
        reply_line(cmd->reply, error);
        return CMD_DONE;
    }
    struct delta delta = delta_of(cmd, &meta);
    enum delta_outcome outcome;
    enum store_verdict made = STORE_NOT_FOUND;
    do {
        outcome = delta_add(cmd, meta.key, &delta);
        made =
            outcome == DELTA_MISS && delta.creates ? create(cmd, &meta, &delta) : STORE_NOT_FOUND;
    } while (made == STORE_AGAIN);
    if (outcome == DELTA_NOT_NUMERIC)
        error = EBB_SPAN("CLIENT_ERROR cannot increment or decrement non-numeric value");
    else if (outcome == DELTA_NO_MEMORY)
        error = EBB_SPAN("SERVER_ERROR out of memory");
    else if (made == STORE_NO_MEMORY)
        error = EBB_SPAN("SERVER_ERROR Out of memory allocating new item");
    else if (meta_is_cut(&meta))
        error = meta_error_opaque;
    if (error.length > 0)
        reply_line(cmd->reply, error);
    else if (outcome == DELTA_DONE || made == STORE_STORED)
        answer(cmd, &meta, &delta, made == STORE_STORED);
    else
        metaflags_answer_code(cmd, &meta, outcome == DELTA_EXISTS ? "EX" : "NF");
    return CMD_DONE;
}
