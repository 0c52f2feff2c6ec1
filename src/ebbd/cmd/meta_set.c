/* meta_set -- ms and md.
 *
 * ms is a set, add, replace, cas, append or prepend: it makes a request of that kind, and the block
 * remembers what its answer shall tell. */
#include "metaflags.h"
#include "set.h"

#include "metrics.h"
#include "proto/number.h"
#include "watchers.h"

/* What the answer tells, until the block is there: the key, the cas and the size stand as one
 * letter. */
static void remember_flags(const struct meta *meta, struct cmd_block *block) {
    char *at = block->echo;
    for (unsigned i = 0; i < meta->flags; i++) {
        struct ebb_span flag = meta->flag[i];
        char letter = flag.at[0];
        if (letter != 'O' && letter != 'k' && letter != 'c' && letter != 's')
            continue;
        *at++ = ' ';
        if (letter != 'O')
            flag.length = 1;
        memcpy(at, flag.at, flag.length);
        at += flag.length;
    }
    block->echo_length = (uint8_t)(at - block->echo);
}

/* What mode makes of ms; REQUEST_NONE: no such mode. With a cas number a set compares. */
static enum request_verb verb_of(const struct meta *meta) {
    bool compares = meta_has(meta, 'C');
    switch (meta->mode) {
    case 0:
    case 'S':
        return compares ? REQUEST_cas : REQUEST_set;
    case 'R':
        return compares ? REQUEST_cas : REQUEST_replace;
    case 'E':
        return REQUEST_add;
    case 'A':
        return REQUEST_append;
    case 'P':
        return REQUEST_prepend;
    default:
        return REQUEST_NONE;
    }
}

static enum cmd_result refuse(struct cmd_context *cmd, const struct meta *meta,
                              struct cmd_block *block, struct ebb_span error) {
    if (!meta->has_block) {
        reply_line(cmd->reply, error);
        return CMD_DONE;
    }
    *block = (struct cmd_block){.length = meta->value_length, .verb = REQUEST_ms, .refusal = error};
    return CMD_BLOCK;
}

enum cmd_result cmd_ms(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    struct meta meta;
    meta_parse(REQUEST_ms, request->keys, &meta);
    if (meta.error.length > 0)
        return refuse(cmd, &meta, block, meta.error);
    enum request_verb verb = verb_of(&meta);
    if (verb == REQUEST_NONE)
        return refuse(cmd, &meta, block, EBB_SPAN("CLIENT_ERROR invalid mode for ms M token"));
    if (meta_is_cut(&meta))
        return refuse(cmd, &meta, block, meta_error_opaque);
    bool joins = verb == REQUEST_append || verb == REQUEST_prepend;
    bool creates = meta_has(&meta, 'N');
    struct request store = {
        .verb = verb,
        .key = meta.key,
        .client_flags = meta.client_flags,
        .exptime = joins && creates ? meta.vivify_ttl : meta.ttl,
        .value_length = meta.value_length,
        .number = meta.cas,
    };
    block->meta = true;
    block->creates = creates;
    block->cas_new = meta.cas_new;
    block->key_is_base64 = meta.key_is_base64;
    block->invalidates = verb == REQUEST_cas && meta_has(&meta, 'I');
    block->key_length = (uint8_t)meta.key.length;
    memcpy(block->key, meta.key.at, meta.key.length);
    remember_flags(&meta, block);
    enum cmd_result result =
        joins ? set_begin_join(cmd, &store, block) : set_begin(cmd, &store, block);
    block->noreply = block->meta && meta_has(&meta, 'q'); /* q silences no error */
    return result;
}

static const char *code_of(enum store_verdict verdict) {
    switch (verdict) {
    case STORE_STORED:
        return "HD";
    case STORE_EXISTS:
        return "EX";
    case STORE_NOT_FOUND:
        return "NF";
    default:
        return "NS";
    }
}

void meta_set_answer(struct cmd_context *cmd, const struct cmd_block *block,
                     enum store_verdict verdict, uint64_t cas, size_t length) {
    if (verdict == STORE_NO_MEMORY) {
        reply_line(cmd->reply, EBB_SPAN("SERVER_ERROR out of memory storing object"));
        return;
    }
    if (verdict == STORE_STORED && block->noreply)
        return;
    struct ebb_span flags = {block->echo, block->echo_length}, flag;
    char *at = cmd->reply->text + cmd->reply->used;
    memcpy(at, code_of(verdict), 2);
    at += 2;
    while (request_next_key(&flags, &flag)) {
        if (flag.at[0] == 'k') {
            at = metaflags_write_key(at, (struct ebb_span){block->key, block->key_length},
                                     block->key_is_base64);
            continue;
        }
        *at++ = ' ';
        memcpy(at, flag.at, flag.length);
        at += flag.length;
        if (flag.at[0] == 'c')
            at += number_write(at, verdict == STORE_STORED ? cas : 0);
        if (flag.at[0] == 's')
            at += number_write(at, length);
    }
    memcpy(at, "\r\n", 2);
    cmd->reply->used = (size_t)(at + 2 - cmd->reply->text);
}

enum removal { REMOVED, REMOVED_NOT_FOUND, REMOVED_EXISTS, REMOVED_MARKED };

struct update {
    const struct cmd_context *cmd;
    const struct meta *meta;
    uint32_t expires; /* what T asks for */
    enum removal result;
    size_t length;
};

static void update_remove(struct store_update *update, void *context) {
    struct update *asked = context;
    const struct meta *meta = asked->meta;
    asked->length = update->item.value_length;
    if (meta_has(meta, 'C') && update->item.cas != meta->cas) {
        asked->result = REMOVED_EXISTS;
        return;
    }
    asked->result = meta_has(meta, 'I') ? REMOVED_MARKED : REMOVED;
    update->remove = asked->result == REMOVED;
    if (update->remove)
        return;
    if (meta_has(meta, 'T'))
        update->expires = asked->expires;
    update->item_flags = (uint8_t)((update->item_flags | STORE_STALE) & ~STORE_WIN_SENT);
    update->cas = meta->cas_new;
}

/* x: what is there is emptied instead. Without T its life has no end then, as in memcached. */
static enum store_verdict decide_empty(const struct store_item *old, struct store_new *new,
                                       void *context) {
    struct update *asked = context;
    const struct meta *meta = asked->meta;
    asked->result = REMOVED_NOT_FOUND;
    if (old == NULL)
        return STORE_NOT_FOUND;
    asked->result = REMOVED_EXISTS;
    if (meta_has(meta, 'C') && old->cas != meta->cas)
        return STORE_EXISTS;
    bool item_flags = meta_has(meta, 'I');
    asked->length = old->value_length;
    asked->result = item_flags ? REMOVED_MARKED : REMOVED;
    new->item_flags = (old->item_flags & STORE_KEY_BASE64) | (item_flags ? STORE_STALE : 0);
    if (new->cas == 0 && !item_flags)
        new->cas = old->cas;
    return STORE_STORED;
}

/* False: no memory. */
static bool empty_item(struct cmd_context *cmd, struct update *update) {
    const struct meta *meta = update->meta;
    struct store_reservation reservation = {0};
    struct store_new new = {
        .client_flags = meta->client_flags, .expires = update->expires, .cas = meta->cas_new};
    if (store_reserve(cmd->worker, meta->key, 0, &new, cmd->now, &reservation) != STORE_STORED)
        return false;
    return store_commit(cmd->worker, &reservation, cmd->now, &new, decide_empty, update) !=
           STORE_NO_MEMORY;
}

enum cmd_result cmd_md(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    (void)block;
    struct meta meta;
    meta_parse(REQUEST_md, request->keys, &meta);
    if (meta.error.length == 0 && meta_is_cut(&meta))
        meta.error = meta_error_opaque;
    if (meta.error.length > 0) {
        reply_line(cmd->reply, meta.error);
        return CMD_DONE;
    }
    struct update update = {.cmd = cmd, .meta = &meta, .result = REMOVED_NOT_FOUND};
    if (meta_has(&meta, 'T'))
        update.expires = exptime_second(&cmd->shared->clock, meta.ttl, cmd->now);
    if (watch_on(WATCH_FETCHERS))
        watch_looked_up(cmd, meta.key);
    if (!meta_has(&meta, 'x')) {
        struct store_may may = {update.expires, meta.cas_new};
        store_update_may(cmd->worker, meta.key, cmd->now, may, update_remove, &update);
    } else if (!empty_item(cmd, &update)) {
        reply_line(cmd->reply, EBB_SPAN("SERVER_ERROR out of memory"));
        return CMD_DONE;
    }
    if (update.result == REMOVED && watch_on(WATCH_DELETIONS))
        watch_deleted(REQUEST_md, meta.key, update.length);
    if (update.result == REMOVED)
        ebb_count(&ebb_metric_delete_hits, 1);
    else if (update.result != REMOVED_MARKED)
        ebb_count(&ebb_metric_delete_misses, 1);
    bool done = update.result == REMOVED || update.result == REMOVED_MARKED;
    if (!done)
        metaflags_answer_code(cmd, &meta, update.result == REMOVED_EXISTS ? "EX" : "NF");
    else if (!meta_has(&meta, 'q'))
        metaflags_answer_code(cmd, &meta, "HD");
    return CMD_DONE;
}
