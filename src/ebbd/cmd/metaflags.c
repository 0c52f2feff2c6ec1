/* metaflags -- one walk over the flags of a request writes the answer.
 *
 * Everything is written straight to the reply's text: an answer without its value is below 1 KiB,
 * and a reply that is not full has REPLY_ROOM. */
#include "metaflags.h"

#include "proto/number.h"
#include <ebb/base64.h>

char *metaflags_write_key(char *at, struct ebb_span key, bool is_base64) {
    *at++ = ' ';
    *at++ = 'k';
    if (is_base64 || !request_is_word(key)) {
        at = ebb_base64_write(at, key);
        *at++ = ' ';
        *at++ = 'b';
        return at;
    }
    memcpy(at, key.at, key.length);
    return at + key.length;
}

static char *write_number(char *at, char letter, uint64_t number) {
    *at++ = ' ';
    *at++ = letter;
    return at + number_write(at, number);
}

static char *write_mark(char *at, char mark) {
    *at++ = ' ';
    *at++ = mark;
    return at;
}

static char *write_span(char *at, struct ebb_span span) {
    *at++ = ' ';
    memcpy(at, span.at, span.length);
    return at + span.length;
}

/* Seconds left; -1: for ever. An item that is over wraps round, as in memcached. */
static char *write_ttl(char *at, uint32_t expires, uint32_t now) {
    if (expires != 0)
        return write_number(at, 't', (uint32_t)(expires - now));
    memcpy(at, " t-1", 4);
    return at + 4;
}

static uint32_t second(const struct cmd_context *cmd, int32_t exptime) {
    return exptime_second(&cmd->shared->clock, exptime, cmd->now);
}

/* T, N and R change the item, or who wins. */
static void apply(const struct cmd_context *cmd, const struct meta *meta, char letter,
                  struct metaflags_item *item) {
    if (letter == 'T')
        item->item.expires = second(cmd, meta->ttl);
    if (letter == 'N' && item->created) {
        item->item.expires = second(cmd, meta->vivify_ttl);
        item->won = true;
    }
    if (letter == 'R' && !item->created && !(item->item.item_flags & STORE_WIN_SENT) &&
        item->item.expires != 0 && item->item.expires < second(cmd, meta->recache_ttl))
        item->won = true;
}

static char *write_flag(char *at, const struct cmd_context *cmd, const struct meta *meta,
                        struct ebb_span flag, struct metaflags_item *item) {
    switch (flag.at[0]) {
    case 's':
        return write_number(at, 's', item->item.value_length);
    case 't':
        return write_ttl(at, item->item.expires, cmd->now);
    case 'c':
        return write_number(at, 'c', item->item.cas);
    case 'f':
        return write_number(at, 'f', item->item.client_flags);
    case 'l':
        return write_number(at, 'l', cmd->now - item->item.last_access);
    case 'h':
        return write_number(at, 'h', (item->item.item_flags & STORE_FETCHED) != 0);
    case 'O':
        return write_span(at, flag);
    case 'k':
        return metaflags_write_key(at, item->key, item->key_is_base64);
    default:
        apply(cmd, meta, flag.at[0], item);
        return at;
    }
}

static char *walk(char *at, const struct cmd_context *cmd, const struct meta *meta, uint64_t shows,
                  struct metaflags_item *item) {
    item->won = false;
    for (unsigned i = 0; i < meta->shown; i++)
        if (shows & META_FLAG(meta->flag[i].at[0]))
            at = write_flag(at, cmd, meta, meta->flag[i], item);
    return at;
}

/* Z: another one was told to recache; X: stale; W: you shall recache. */
static char *write_wins(char *at, struct metaflags_item *item) {
    uint8_t item_flags = item->item.item_flags;
    if (item_flags & STORE_WIN_SENT)
        at = write_mark(at, 'Z');
    if (item_flags & STORE_STALE) {
        at = write_mark(at, 'X');
        item->won |= !(item_flags & STORE_WIN_SENT);
    }
    return item->won ? write_mark(at, 'W') : at;
}

static void end_line(struct reply *reply, char *at) {
    *at++ = '\r';
    *at++ = '\n';
    reply->used = (size_t)(at - reply->text);
}

void metaflags_answer(const struct cmd_context *cmd, const struct meta *meta, uint64_t shows,
                      struct metaflags_item *item) {
    char *at = cmd->reply->text + cmd->reply->used;
    if (meta_has(meta, 'v') && !item->known) {
        memcpy(at, "VA ", 3);
        at += 3;
        at += number_write(at, item->item.value_length);
    } else {
        memcpy(at, "HD", 2);
        at += 2;
    }
    at = walk(at, cmd, meta, shows, item);
    if (shows & META_FLAG('R'))
        at = write_wins(at, item);
    end_line(cmd->reply, at);
}

void metaflags_apply(const struct cmd_context *cmd, const struct meta *meta, uint64_t shows,
                     struct metaflags_item *item) {
    walk(cmd->reply->text + cmd->reply->used, cmd, meta, shows, item);
}

void metaflags_answer_code(struct cmd_context *cmd, const struct meta *meta, const char *code) {
    char *at = cmd->reply->text + cmd->reply->used;
    memcpy(at, code, 2);
    at += 2;
    for (unsigned i = 0; i < meta->flags; i++) {
        if (meta->flag[i].at[0] == 'O')
            at = write_span(at, meta->flag[i]);
        if (meta->flag[i].at[0] == 'k')
            at = metaflags_write_key(at, meta->key, meta->key_is_base64);
    }
    end_line(cmd->reply, at);
}
