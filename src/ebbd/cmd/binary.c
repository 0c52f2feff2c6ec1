/* binary -- the binary protocol's commands, over the same store and the same functions as the
 * text's.
 *
 * A quiet command is silent only when nothing eventful happened: a get that misses, a change that
 * was made. Every error is answered, whoever asked.
 *
 * 1. Answers carry the cas number that an item has after the command; 0 on errors.
 * 2. A get is read out of the store and then asked for (store_still), as in get.c; gat reads first
 * and sets the expiry afterwards. */
#include "binary_stat.h"
#include "incr.h"
#include "prefix.h"
#include "set.h"
#include "watchers.h"

#include "metrics.h"

#define DELTA_INITIAL 8 /* offsets in the extras of increment */
#define DELTA_EXPIRES 16
#define STORE_EXPIRES 4 /* and of set */

typedef enum cmd_result binary_function(struct cmd_context *cmd, const struct binary *frame,
                                        struct cmd_block *block);

static enum cmd_result fail(struct cmd_context *cmd, const struct binary *frame,
                            enum binary_status status) {
    binary_reply_error(cmd->reply, &frame->origin, status, EBB_SPAN(""));
    return CMD_DONE;
}

/* An answer without a body, if one is wanted. */
static enum cmd_result succeed(struct cmd_context *cmd, const struct binary *frame, uint64_t cas) {
    if (!frame->origin.quiet)
        binary_reply_head(cmd->reply, &frame->origin, BINARY_OK, (struct binary_body){0}, cas);
    return CMD_DONE;
}

/* The rest of the frame is thrown away, then the error told. */
static enum cmd_result pass_over(const struct binary *frame, enum binary_status status,
                                 struct cmd_block *block) {
    *block = (struct cmd_block){
        .length = binary_value_length(frame), .binary = frame->origin, .refusal_status = status};
    return CMD_BLOCK;
}

static uint32_t second_of(const struct cmd_context *cmd, uint32_t exptime) {
    return exptime_second(&cmd->shared->clock, exptime, cmd->now);
}

/* --- get, touch, delete --- */

static bool shows_key(const struct binary *frame) {
    uint8_t opcode = frame->origin.opcode;
    return opcode == BINARY_getk || opcode == BINARY_getkq || opcode == BINARY_gatk ||
           opcode == BINARY_gatkq;
}

static bool add_value(struct cmd_context *cmd, const struct binary *frame) {
    struct reply *reply = cmd->reply;
    struct reply_mark mark = reply_mark(reply);
    struct ebb_span shown = shows_key(frame) ? frame->key : EBB_SPAN("");
    struct store_read read;
    while (store_find(cmd->worker, frame->key, cmd->now, &read)) {
        const struct store_item *item = &read.item;
        struct binary_body body = {sizeof(item->client_flags), (uint16_t)shown.length,
                                   item->value_length};
        binary_reply_head(reply, &frame->origin, BINARY_OK, body, item->cas);
        binary_reply_u32(reply, item->client_flags);
        reply_bytes(reply, shown.at, shown.length);
        if (item->value_length > STORE_COPY_MAX)
            reply_piece(reply, item->value, item->value_length, item->pin);
        else
            reply_bytes(reply, item->value, item->value_length);
        if (store_still(&read)) {
            store_touched(&read);
            if (watch_on(WATCH_FETCHERS))
                watch_fetched(cmd, frame->key, true, body.value);
            return true;
        }
        reply_take_back(reply, mark);
    }
    if (watch_on(WATCH_FETCHERS))
        watch_fetched(cmd, frame->key, false, 0);
    return false;
}

static void count_prefix(const struct binary *frame, bool hit) {
    if (!prefix_on())
        return;
    prefix_count(frame->key, PREFIX_GET);
    if (hit)
        prefix_count(frame->key, PREFIX_HIT);
}

static void answer_miss(struct cmd_context *cmd, const struct binary *frame) {
    if (frame->origin.quiet)
        return;
    if (!shows_key(frame)) {
        fail(cmd, frame, BINARY_NOT_FOUND);
        return;
    }
    struct binary_body body = {.key = (uint16_t)frame->key.length};
    binary_reply_head(cmd->reply, &frame->origin, BINARY_NOT_FOUND, body, 0);
    reply_bytes(cmd->reply, frame->key.at, frame->key.length);
}

struct touched {
    uint32_t expires, client_flags;
    uint64_t cas;
};

static void set_expires(struct store_update *update, void *context) {
    struct touched *touched = context;
    update->expires = touched->expires;
    update->accessed = true;
    touched->client_flags = update->item.client_flags;
    touched->cas = update->item.cas;
}

static enum cmd_result run_get(struct cmd_context *cmd, const struct binary *frame,
                               struct cmd_block *block) {
    (void)block;
    bool touches = frame->verb == REQUEST_gat, hit = add_value(cmd, frame);
    count_prefix(frame, hit);
    if (touches) {
        struct touched touched = {.expires = second_of(cmd, binary_u32(frame, 0))};
        if (hit)
            store_update(cmd->worker, frame->key, cmd->now, touched.expires, set_expires, &touched);
        ebb_count(hit ? &ebb_metric_touch_hits : &ebb_metric_touch_misses, 1);
    } else {
        ebb_count(hit ? &ebb_metric_get_hits : &ebb_metric_get_misses, 1);
    }
    if (!hit)
        answer_miss(cmd, frame);
    return CMD_DONE;
}

static enum cmd_result run_touch(struct cmd_context *cmd, const struct binary *frame,
                                 struct cmd_block *block) {
    (void)block;
    struct touched touched = {.expires = second_of(cmd, binary_u32(frame, 0))};
    if (watch_on(WATCH_FETCHERS))
        watch_looked_up(cmd, frame->key);
    bool hit =
        store_update(cmd->worker, frame->key, cmd->now, touched.expires, set_expires, &touched);
    count_prefix(frame, hit);
    ebb_count(hit ? &ebb_metric_touch_hits : &ebb_metric_touch_misses, 1);
    if (!hit)
        return fail(cmd, frame, BINARY_NOT_FOUND);
    struct binary_body body = {.extras = sizeof(touched.client_flags)};
    binary_reply_head(cmd->reply, &frame->origin, BINARY_OK, body, touched.cas);
    binary_reply_u32(cmd->reply, touched.client_flags);
    return CMD_DONE;
}

struct removal {
    uint64_t cas; /* 0: any */
    bool other;   /* the item has another */
    size_t length;
};

static void set_remove(struct store_update *update, void *context) {
    struct removal *removal = context;
    removal->length = update->item.value_length;
    removal->other = removal->cas != 0 && removal->cas != update->item.cas;
    update->remove = !removal->other;
}

static enum cmd_result run_delete(struct cmd_context *cmd, const struct binary *frame,
                                  struct cmd_block *block) {
    (void)block;
    struct removal removal = {.cas = frame->cas};
    if (prefix_on())
        prefix_count(frame->key, PREFIX_DELETE);
    if (watch_on(WATCH_FETCHERS))
        watch_looked_up(cmd, frame->key);
    bool found = store_update(cmd->worker, frame->key, cmd->now, 0, set_remove, &removal);
    if (found && removal.other)
        return fail(cmd, frame, BINARY_EXISTS);
    ebb_count(found ? &ebb_metric_delete_hits : &ebb_metric_delete_misses, 1);
    if (found && watch_on(WATCH_DELETIONS))
        watch_deleted(REQUEST_delete, frame->key, removal.length);
    return found ? succeed(cmd, frame, 0) : fail(cmd, frame, BINARY_NOT_FOUND);
}

/* --- storing --- */

static enum cmd_result run_store(struct cmd_context *cmd, const struct binary *frame,
                                 struct cmd_block *block) {
    bool joins = frame->verb == REQUEST_append || frame->verb == REQUEST_prepend;
    struct request request;
    request.verb = frame->verb;
    request.key = frame->key;
    request.noreply = false;
    request.client_flags = joins ? 0 : binary_u32(frame, 0);
    request.exptime = joins ? 0 : binary_u32(frame, STORE_EXPIRES);
    request.value_length = binary_value_length(frame);
    request.number = frame->cas;
    *block = (struct cmd_block){.binary = frame->origin};
    if (joins)
        return set_begin_join(cmd, &request, block);
    enum cmd_result result = set_begin(cmd, &request, block);
    if (frame->cas != 0 && block->at)
        block->verb = REQUEST_cas;
    return result;
}

void binary_store_refuse(struct cmd_block *block, enum store_verdict verdict) {
    bool large = verdict == STORE_TOO_LARGE;
    block->refusal_status = large ? BINARY_TOO_LARGE : BINARY_NO_MEMORY;
    block->refusal = large ? EBB_SPAN("") : EBB_SPAN("Out of memory allocating item");
}

/* What memcached says when nothing was stored. */
static enum binary_status status_not_stored(enum request_verb verb) {
    if (verb == REQUEST_add)
        return BINARY_EXISTS;
    return verb == REQUEST_replace ? BINARY_NOT_FOUND : BINARY_NOT_STORED;
}

void binary_store_answer(struct cmd_context *cmd, const struct cmd_block *block,
                         enum store_verdict verdict, uint64_t cas) {
    enum binary_status status = BINARY_OK;
    switch (verdict) {
    case STORE_STORED:
        if (!block->binary.quiet)
            binary_reply_head(cmd->reply, &block->binary, BINARY_OK, (struct binary_body){0}, cas);
        return;
    case STORE_EXISTS:
        status = BINARY_EXISTS;
        break;
    case STORE_NOT_FOUND:
        status = BINARY_NOT_FOUND;
        break;
    default:
        status = status_not_stored(block->verb);
    }
    binary_reply_error(cmd->reply, &block->binary, status, EBB_SPAN(""));
}

/* --- counting --- */

static enum cmd_result answer_number(struct cmd_context *cmd, const struct binary *frame,
                                     const struct delta *delta) {
    uint64_t number = 0;
    if (frame->origin.quiet)
        return CMD_DONE;
    number_u64((struct ebb_span){delta->digits, delta->digits_count}, &number);
    struct binary_body body = {.value = sizeof(number)};
    binary_reply_head(cmd->reply, &frame->origin, BINARY_OK, body, delta->cas);
    binary_reply_u64(cmd->reply, number);
    return CMD_DONE;
}

static enum cmd_result run_delta(struct cmd_context *cmd, const struct binary *frame,
                                 struct cmd_block *block) {
    (void)block;
    struct delta delta = {
        .negative = frame->verb == REQUEST_decr,
        .amount = binary_u64(frame, 0),
        .cas_wanted = frame->cas,
        .creates = binary_u32(frame, DELTA_EXPIRES) != BINARY_NO_CREATE,
    };
    enum delta_outcome outcome;
    enum store_verdict made = STORE_NOT_FOUND;
    do {
        outcome = delta_add(cmd, frame->key, &delta);
        if (outcome == DELTA_MISS && delta.creates) {
            struct store_new new = {.expires = second_of(cmd, binary_u32(frame, DELTA_EXPIRES))};
            made = delta_create(cmd, frame->key, binary_u64(frame, DELTA_INITIAL), &new, &delta);
        }
    } while (made == STORE_AGAIN && outcome == DELTA_MISS);
    if (outcome == DELTA_DONE || made == STORE_STORED)
        return answer_number(cmd, frame, &delta);
    if (outcome == DELTA_MISS && made != STORE_NO_MEMORY)
        return fail(cmd, frame, BINARY_NOT_FOUND);
    if (outcome == DELTA_NOT_NUMERIC || outcome == DELTA_EXISTS)
        return fail(cmd, frame, outcome == DELTA_EXISTS ? BINARY_EXISTS : BINARY_NOT_NUMERIC);
    binary_reply_error(cmd->reply, &frame->origin, BINARY_NO_MEMORY,
                       made == STORE_NO_MEMORY ? EBB_SPAN("Out of memory allocating new item")
                                               : EBB_SPAN("Out of memory incrementing value"));
    return CMD_DONE;
}

/* --- what concerns the daemon --- */

static enum cmd_result run_flush(struct cmd_context *cmd, const struct binary *frame,
                                 struct cmd_block *block) {
    (void)block;
    if (cmd->shared->settings->disable_flush)
        return fail(cmd, frame, BINARY_NOT_ALLOWED);
    cmd_flush(cmd, frame->extras_length > 0 ? binary_u32(frame, 0) : 0);
    return succeed(cmd, frame, 0);
}

static enum cmd_result run_noop(struct cmd_context *cmd, const struct binary *frame,
                                struct cmd_block *block) {
    (void)block;
    return succeed(cmd, frame, 0);
}

static enum cmd_result run_version(struct cmd_context *cmd, const struct binary *frame,
                                   struct cmd_block *block) {
    (void)block;
    struct binary_body body = {.value = sizeof(CMD_VERSION) - 1};
    binary_reply_head(cmd->reply, &frame->origin, BINARY_OK, body, 0);
    reply_bytes(cmd->reply, CMD_VERSION, body.value);
    return CMD_DONE;
}

static enum cmd_result run_quit(struct cmd_context *cmd, const struct binary *frame,
                                struct cmd_block *block) {
    (void)block;
    succeed(cmd, frame, 0);
    return CMD_QUIT;
}

static enum cmd_result run_stat(struct cmd_context *cmd, const struct binary *frame,
                                struct cmd_block *block) {
    (void)block;
    binary_stat(cmd, frame);
    return CMD_DONE;
}

static enum cmd_result run_sasl(struct cmd_context *cmd, const struct binary *frame,
                                struct cmd_block *block) {
    (void)cmd;
    return pass_over(frame, BINARY_UNKNOWN, block);
}

static binary_function *const functions[] = {
#define EBB_OPCODE(id, opcode, quiet, extras, extras_or, key, rest, function, verb, help)          \
    [opcode] = run_##function,
#include "tbl/opcodes.def"
};

enum cmd_result cmd_run_binary(struct cmd_context *cmd, const struct binary *frame,
                               struct cmd_block *block) {
    bool closes;
    enum binary_status status = binary_check(frame, &closes);
    cmd_count(status == BINARY_OK ? frame->verb : REQUEST_NONE);
    if (status == BINARY_OK)
        return functions[frame->origin.opcode](cmd, frame, block);
    if (!closes)
        return pass_over(frame, status, block);
    fail(cmd, frame, status);
    return CMD_QUIT;
}
