/* meta_get -- mg and me.
 *
 * Most mg are as cheap as a get: the item is read without a lock, copied, and asked for
 * (store_still). Those that change the item (T), or may make its asker the one who recaches (R, a
 * stale item), are answered under the bucket's lock, so of many askers one wins.
 *
 * 1. A stale item, or one that R finds short of life, has one winner: the first asker under the
 * lock sets STORE_WIN_SENT, and everybody after it is told Z.
 * 2. N makes a missing item with an empty value; its maker has won. Who comes between is not its
 * maker, and starts over.
 * 3. h and l tell how it was before this request. */
#include "metaflags.h"

#include "metrics.h"
#include "watchers.h"

#include <stdio.h>
#include <ebb/base64.h>

#define FLAGS_SHOWN                                                                                \
    (META_FLAG('s') | META_FLAG('t') | META_FLAG('c') | META_FLAG('f') | META_FLAG('l') |          \
     META_FLAG('h') | META_FLAG('O') | META_FLAG('k') | META_FLAG('T') | META_FLAG('N') |          \
     META_FLAG('R'))

#define DEBUG_LINE_MAX 512 /* bytes behind the key */

static void add_value(struct reply *reply, const struct meta *meta,
                      const struct metaflags_item *shown) {
    const struct store_item *item = &shown->item;
    if (!meta_has(meta, 'v') || shown->known)
        return;
    if (item->value_length > STORE_COPY_MAX)
        reply_piece(reply, item->value, item->value_length, item->pin);
    else
        reply_bytes(reply, item->value, item->value_length);
    reply_bytes(reply, "\r\n", 2);
}

static struct metaflags_item shown(const struct meta *meta, const struct store_item *item) {
    return (struct metaflags_item){.key = meta->key,
                                   .key_is_base64 = (item->item_flags & STORE_KEY_BASE64) != 0,
                                   .known = meta_has(meta, 'C') && item->cas == meta->cas,
                                   .item = *item};
}

/* The answer tells the item only, and changes nothing. */
static bool needs_update(const struct meta *meta, const struct store_item *item) {
    return (meta->has & (META_FLAG('T') | META_FLAG('R'))) ||
           (item->item_flags & (STORE_STALE | STORE_WIN_SENT)) == STORE_STALE;
}

/* Does a hit count as a use of the item? memcached counts at once, or, with flags that tell how it
 * was before or that change it, at the end, which an opaque that is too long does not reach. */
static bool is_use(const struct meta *meta) {
    const uint64_t late =
        META_FLAG('T') | META_FLAG('N') | META_FLAG('R') | META_FLAG('l') | META_FLAG('h');
    return !meta_has(meta, 'u') && !(meta_is_cut(meta) && (meta->has & late));
}

enum found { FOUND, FOUND_NOT, FOUND_NEEDS_EDIT };

static enum found read_only(struct cmd_context *cmd, const struct meta *meta) {
    struct reply_mark mark = reply_mark(cmd->reply);
    struct store_read read;
    while (store_find(cmd->worker, meta->key, cmd->now, &read)) {
        if (needs_update(meta, &read.item)) {
            if (watch_on(WATCH_FETCHERS))
                watch_fetched(cmd, meta->key, true, read.item.value_length);
            return FOUND_NEEDS_EDIT;
        }
        struct metaflags_item item = shown(meta, &read.item);
        metaflags_answer(cmd, meta, FLAGS_SHOWN, &item);
        add_value(cmd->reply, meta, &item);
        size_t length = read.item.value_length;
        if (store_still(&read)) {
            if (is_use(meta))
                store_touched(&read);
            if (watch_on(WATCH_FETCHERS))
                watch_fetched(cmd, meta->key, true, length);
            return FOUND;
        }
        reply_take_back(cmd->reply, mark);
    }
    if (watch_on(WATCH_FETCHERS))
        watch_fetched(cmd, meta->key, false, 0);
    return FOUND_NOT;
}

struct update {
    const struct cmd_context *cmd;
    const struct meta *meta;
};

static void update_item(struct store_update *update, void *context) {
    const struct update *asked = context;
    struct metaflags_item item = shown(asked->meta, &update->item);
    metaflags_answer(asked->cmd, asked->meta, FLAGS_SHOWN, &item);
    add_value(asked->cmd->reply, asked->meta, &item);
    update->expires = item.item.expires;
    if (item.won && !meta_is_cut(asked->meta))
        update->item_flags |= STORE_WIN_SENT;
    update->accessed = is_use(asked->meta);
}

/* An empty item as N makes it. */
static struct metaflags_item empty_item(const struct cmd_context *cmd, const struct meta *meta) {
    return (struct metaflags_item){
        .key = meta->key,
        .key_is_base64 = meta->key_is_base64,
        .created = true,
        .item = {.value = "", .last_access = cmd->now},
    };
}

static enum found create(struct cmd_context *cmd, const struct meta *meta) {
    struct metaflags_item item = empty_item(cmd, meta);
    struct store_reservation reservation = {0};
    metaflags_apply(cmd, meta, FLAGS_SHOWN, &item);
    struct store_new new = {.expires = item.item.expires, .cas = meta->cas_new};
    if (store_reserve(cmd->worker, meta->key, 0, &new, cmd->now, &reservation) != STORE_STORED)
        return FOUND_NOT;
    new.item_flags = (item.won && !meta_is_cut(meta) ? STORE_WIN_SENT : 0) |
                     (meta->key_is_base64 ? STORE_KEY_BASE64 : 0) |
                     (is_use(meta) ? STORE_FETCHED : 0);
    switch (store_commit(cmd->worker, &reservation, cmd->now, &new, cmd_decide_absent, NULL)) {
    case STORE_STORED:
        item = empty_item(cmd, meta);
        item.item.cas = new.cas;
        item.known = meta_has(meta, 'C') && new.cas == meta->cas;
        metaflags_answer(cmd, meta, FLAGS_SHOWN, &item);
        add_value(cmd->reply, meta, &item);
        return FOUND;
    case STORE_AGAIN:
        return FOUND_NEEDS_EDIT;
    default:
        return FOUND_NOT;
    }
}

static bool answer_item(struct cmd_context *cmd, const struct meta *meta) {
    struct update update = {cmd, meta};
    uint32_t expires =
        meta_has(meta, 'T') ? exptime_second(&cmd->shared->clock, meta->ttl, cmd->now) : 0;
    enum found found = read_only(cmd, meta);
    for (;;) {
        if (found == FOUND_NEEDS_EDIT)
            found = store_update(cmd->worker, meta->key, cmd->now, expires, update_item, &update)
                        ? FOUND
                        : FOUND_NOT;
        if (found == FOUND_NOT && meta_has(meta, 'N'))
            found = create(cmd, meta);
        if (found != FOUND_NEEDS_EDIT)
            return found == FOUND;
    }
}

static void count(const struct meta *meta, bool hit) {
    if (!hit)
        ebb_count(&ebb_metric_get_misses, 1);
    else
        ebb_count(meta_has(meta, 'T') ? &ebb_metric_touch_hits : &ebb_metric_get_hits, 1);
}

enum cmd_result cmd_mg(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    (void)block;
    struct meta meta;
    meta_parse(REQUEST_mg, request->keys, &meta);
    if (meta.error.length > 0) {
        reply_line(cmd->reply, meta.error);
        return CMD_DONE;
    }
    struct reply_mark mark = reply_mark(cmd->reply);
    bool hit = answer_item(cmd, &meta);
    count(&meta, hit);
    if (meta_is_cut(&meta)) {
        reply_take_back(cmd->reply, mark);
        reply_line(cmd->reply, meta_error_opaque);
    } else if (!hit && !meta_has(&meta, 'q')) {
        metaflags_answer_code(cmd, &meta, "EN");
    }
    return CMD_DONE;
}

static void answer_debug(struct cmd_context *cmd, struct ebb_span key,
                         const struct store_item *item) {
    struct reply *reply = cmd->reply;
    char line[DEBUG_LINE_MAX];
    char *at = reply->text + reply->used;
    memcpy(at, "ME ", 3);
    at += 3;
    if ((item->item_flags & STORE_KEY_BASE64) || !request_is_word(key))
        at = ebb_base64_write(at, key);
    else
        at = (char *)memcpy(at, key.at, key.length) + key.length;
    reply->used = (size_t)(at - reply->text);
    size_t size = cmd_item_size(key.length, item->client_flags, item->value_length);
    int length = snprintf(line, sizeof(line), " exp=%d la=%u cas=%llu fetch=%s cls=%u size=%zu\r\n",
                          item->expires == 0 ? -1 : (int)(item->expires - cmd->now),
                          cmd->now - item->last_access, (unsigned long long)item->cas,
                          item->item_flags & STORE_FETCHED ? "yes" : "no", 1u, size);
    reply_bytes(reply, line, (size_t)length);
}

enum cmd_result cmd_me(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    (void)block;
    char reservation[REQUEST_KEY_MAX];
    struct ebb_span key;
    if (!meta_parse_debug(request->keys, &key, reservation)) {
        reply_line(cmd->reply, EBB_SPAN("CLIENT_ERROR bad command line format"));
        return CMD_DONE;
    }
    ebb_count(&ebb_metric_debugged, 1);
    if (watch_on(WATCH_FETCHERS))
        watch_looked_up(cmd, key);
    struct store_read read;
    while (store_find(cmd->worker, key, cmd->now, &read)) {
        struct store_item item = read.item;
        if (store_still(&read)) {
            answer_debug(cmd, key, &item);
            return CMD_DONE;
        }
    }
    reply_line(cmd->reply, EBB_SPAN("EN"));
    return CMD_DONE;
}
