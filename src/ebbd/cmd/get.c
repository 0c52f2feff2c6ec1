/* get -- get, gets, gat, gats, bget.
 *
 * A hit is copied out of the store's memory and only then asked for (store_still): when the item
 * was changed meanwhile, what was added to the reply is taken back and the key is looked up again.
 * Values longer than STORE_COPY_MAX never change where they lie, so they are sent from there, held
 * by a pin.
 *
 * 1. Before each key the reply has room for it: a long get is left and taken up again (CMD_AGAIN),
 * so no line, however many keys it has, makes the reply grow.
 * 2. gat reads first and sets the expiry afterwards: an item that it ends at once is still
 * answered, as memcached does. */
#include "cmd.h"

#include "metrics.h"
#include "prefix.h"
#include "watchers.h"

/* Adds the item of key to the reply. False: a miss. */
static bool add_value(struct cmd_context *cmd, struct ebb_span key, bool with_cas) {
    struct reply *reply = cmd->reply;
    struct reply_mark mark = reply_mark(reply);
    struct store_read read;
    while (store_find(cmd->worker, key, cmd->now, &read)) {
        const struct store_item *item = &read.item;
        reply_value_head(reply, key, item->client_flags, item->value_length,
                         with_cas ? &item->cas : NULL);
        if (item->value_length > STORE_COPY_MAX)
            reply_piece(reply, item->value, item->value_length, item->pin);
        else
            reply_bytes(reply, item->value, item->value_length);
        reply_bytes(reply, "\r\n", 2);
        size_t length = item->value_length;
        if (store_still(&read)) {
            store_touched(&read);
            if (watch_on(WATCH_FETCHERS))
                watch_fetched(cmd, key, true, length);
            return true;
        }
        reply_take_back(reply, mark);
    }
    if (watch_on(WATCH_FETCHERS))
        watch_fetched(cmd, key, false, 0);
    return false;
}

static void count_prefix(struct ebb_span key, bool hit) {
    prefix_count(key, PREFIX_GET);
    if (hit)
        prefix_count(key, PREFIX_HIT);
}

static enum cmd_result answer_keys(struct cmd_context *cmd, struct request *request, bool with_cas,
                                   bool (*add)(struct cmd_context *, struct ebb_span,
                                               const struct request *, bool)) {
    struct ebb_span key;
    while (request_next_key(&request->keys, &key)) {
        add(cmd, key, request, with_cas);
        if (reply_full(cmd->reply) && request->keys.length > 0) {
            struct ebb_span rest = request->keys, next;
            if (request_next_key(&rest, &next))
                return CMD_AGAIN;
        }
    }
    reply_bytes(cmd->reply, "END\r\n", 5);
    return CMD_DONE;
}

static bool add_plain(struct cmd_context *cmd, struct ebb_span key, const struct request *request,
                      bool with_cas) {
    (void)request;
    bool hit = add_value(cmd, key, with_cas);
    if (prefix_on())
        count_prefix(key, hit);
    ebb_count(hit ? &ebb_metric_get_hits : &ebb_metric_get_misses, 1);
    return hit;
}

static void set_expires(struct store_update *update, void *context) {
    update->expires = *(const uint32_t *)context;
    update->accessed = true;
}

static bool add_touched(struct cmd_context *cmd, struct ebb_span key, const struct request *request,
                        bool with_cas) {
    bool hit = add_value(cmd, key, with_cas);
    if (prefix_on())
        count_prefix(key, hit);
    uint32_t expires = exptime_second(&cmd->shared->clock, request->exptime, cmd->now);
    if (hit)
        store_update(cmd->worker, key, cmd->now, expires, set_expires, &expires);
    ebb_count(hit ? &ebb_metric_touch_hits : &ebb_metric_touch_misses, 1);
    return hit;
}

enum cmd_result cmd_get(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    (void)block;
    return answer_keys(cmd, request, false, add_plain);
}

enum cmd_result cmd_gets(struct cmd_context *cmd, struct request *request,
                         struct cmd_block *block) {
    (void)block;
    return answer_keys(cmd, request, true, add_plain);
}

enum cmd_result cmd_gat(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    (void)block;
    return answer_keys(cmd, request, false, add_touched);
}

enum cmd_result cmd_gats(struct cmd_context *cmd, struct request *request,
                         struct cmd_block *block) {
    (void)block;
    return answer_keys(cmd, request, true, add_touched);
}

enum cmd_result cmd_bget(struct cmd_context *cmd, struct request *request,
                         struct cmd_block *block) {
    return cmd_get(cmd, request, block);
}

enum cmd_result cmd_touch(struct cmd_context *cmd, struct request *request,
                          struct cmd_block *block) {
    (void)block;
    uint32_t expires = exptime_second(&cmd->shared->clock, request->exptime, cmd->now);
    if (watch_on(WATCH_FETCHERS))
        watch_looked_up(cmd, request->key);
    bool hit = store_update(cmd->worker, request->key, cmd->now, expires, set_expires, &expires);
    ebb_count(hit ? &ebb_metric_touch_hits : &ebb_metric_touch_misses, 1);
    cmd_answer(cmd, request->noreply, hit ? EBB_SPAN("TOUCHED") : EBB_SPAN("NOT_FOUND"));
    return CMD_DONE;
}

static void set_remove(struct store_update *update, void *context) {
    *(size_t *)context = update->item.value_length;
    update->remove = true;
}

enum cmd_result cmd_delete(struct cmd_context *cmd, struct request *request,
                           struct cmd_block *block) {
    (void)block;
    if (watch_on(WATCH_FETCHERS))
        watch_looked_up(cmd, request->key);
    size_t length = 0;
    bool hit = store_update(cmd->worker, request->key, cmd->now, 0, set_remove, &length);
    if (prefix_on())
        prefix_count(request->key, PREFIX_DELETE);
    if (hit && watch_on(WATCH_DELETIONS))
        watch_deleted(REQUEST_delete, request->key, length);
    ebb_count(hit ? &ebb_metric_delete_hits : &ebb_metric_delete_misses, 1);
    cmd_answer(cmd, request->noreply, hit ? EBB_SPAN("DELETED") : EBB_SPAN("NOT_FOUND"));
    return CMD_DONE;
}
