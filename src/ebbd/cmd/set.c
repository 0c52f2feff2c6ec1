/* set -- set, add, replace, cas, append, prepend.
 *
 * The room is reserved when the line comes, so the data block is read straight to its place.
 * Whether it is stored is decided under the bucket's lock (the decide_* functions), when all of it
 * is there.
 *
 * append and prepend do not know the size of what they will store: their bytes go to a buffer of
 * their own first, or, when they are many, to a reservation that is given up afterwards, so that
 * who never sends the last of them takes of the memory limit. The joined value is built in another
 * room, again and again until no other writer came between.
 *
 * Reserved room makes items leave, and a client may announce 500 MB and send nothing. So what is
 * announced has its reservation at once only within a share of the memory; beyond it, the
 * reservation is made as the bytes arrive: small at first, and twice as large whenever it is full
 * (cmd_block_more).
 *
 * 1. The error of what cannot be stored is told when its block has come, as memcached does: clients
 * that read answers only after they have sent all would stand still, or count an early one twice.
 * 2. A set that cannot be stored (too large, no memory) removes the old value: a client that tried
 * to replace it must not read it any more. As memcached: set only, not add or the others.
 * 3. The item's size is memcached's: its header, the key, the value and CRLF, so -I refuses the
 * same values. */
#include "set.h"

#include "metrics.h"
#include "prefix.h"
#include "watchers.h"

#include <ebb/mem.h>
#include <stdatomic.h>

#define CRLF            2
#define JOIN_BUFFER_MAX (16 * 1024) /* bytes; more of an append go to a reservation */
#define ANNOUNCED_LEAST (16 * 1024) /* bytes; what is not longer has its reservation at once, */
#define ANNOUNCED_SHARE 16 /* and longer ones as long as they are together so little of -m */

static _Atomic uint64_t
    announced; /* bytes of the longer ones that have their room and are to come */

static bool too_large(const struct cmd_context *cmd, size_t key_length, uint32_t client_flags,
                      size_t value_length) {
    return cmd_item_size(key_length, client_flags, value_length) >
           cmd->shared->settings->item_size_max;
}

static void set_remove(struct store_update *update, void *context) {
    (void)context;
    update->remove = true;
}

/* The block will come all the same: it is thrown away, and the error told then. */
static enum cmd_result refuse(struct cmd_context *cmd, const struct request *request,
                              struct cmd_block *block, enum store_verdict verdict) {
    bool removes = request->verb == REQUEST_set || block->meta;
    bool large = verdict == STORE_TOO_LARGE;
    ebb_count(large ? &ebb_metric_too_large : &ebb_metric_no_memory, 1);
    if (watch_on(WATCH_MUTATIONS))
        watch_stored(cmd, request->verb, request->key, verdict, 0, 0);
    if (removes && watch_on(WATCH_FETCHERS))
        watch_looked_up(cmd, request->key);
    if (removes)
        store_update(cmd->worker, request->key, cmd->now, 0, set_remove, NULL);
    struct cmd_block refused = {.length = request->value_length,
                                .verb = request->verb,
                                .noreply = request->noreply,
                                .binary = block->binary};
    if (block->binary.is)
        binary_store_refuse(&refused, verdict);
    else
        refused.refusal = large ? EBB_SPAN("SERVER_ERROR object too large for cache")
                                : EBB_SPAN("SERVER_ERROR out of memory storing object");
    *block = refused;
    return CMD_BLOCK;
}

static void block_init(struct cmd_context *cmd, const struct request *request,
                       struct cmd_block *block) {
    block->length = request->value_length;
    block->verb = request->verb;
    block->noreply = request->noreply;
    block->client_flags = request->client_flags;
    block->expires = exptime_second(&cmd->shared->clock, request->exptime, cmd->now);
    block->cas = request->number;
}

static struct store_new likely_of(const struct cmd_block *block) {
    return (struct store_new){
        .client_flags = block->client_flags, .expires = block->expires, .cas = block->cas_new};
}

/* How much of a block has its reservation at once. */
static size_t room_at_first(const struct cmd_context *cmd, struct cmd_block *block) {
    uint64_t most = store_limit_now(cmd->shared->store) / ANNOUNCED_SHARE;
    if (block->length <= ANNOUNCED_LEAST)
        return block->length;
    if (atomic_fetch_add(&announced, block->length) + block->length <= most) {
        block->announced = block->length;
        return block->length;
    }
    atomic_fetch_sub(&announced, block->length);
    return ANNOUNCED_LEAST;
}

static void announced_end(struct cmd_block *block) {
    if (block->announced > 0)
        atomic_fetch_sub(&announced, block->announced);
    block->announced = 0;
}

static enum cmd_result begin_in_room(struct cmd_context *cmd, const struct request *request,
                                     struct cmd_block *block) {
    struct store_new likely = likely_of(block);
    block->here = room_at_first(cmd, block);
    enum store_verdict verdict = store_reserve(cmd->worker, request->key, block->here, &likely,
                                               cmd->now, &block->reservation);
    if (verdict != STORE_STORED) {
        announced_end(block);
        return refuse(cmd, request, block, verdict);
    }
    block->at = block->reservation.value;
    return CMD_BLOCK;
}

enum cmd_result set_begin(struct cmd_context *cmd, struct request *request,
                          struct cmd_block *block) {
    if (prefix_on() && !block->meta)
        prefix_count(request->key, PREFIX_SET);
    if (too_large(cmd, request->key.length, request->client_flags, request->value_length))
        return refuse(cmd, request, block, STORE_TOO_LARGE);
    block_init(cmd, request, block);
    return begin_in_room(cmd, request, block);
}

enum cmd_result set_begin_join(struct cmd_context *cmd, struct request *request,
                               struct cmd_block *block) {
    if (prefix_on() && !block->meta)
        prefix_count(request->key, PREFIX_SET);
    if (too_large(cmd, request->key.length, request->client_flags, request->value_length))
        return refuse(cmd, request, block, STORE_TOO_LARGE);
    block_init(cmd, request, block);
    block->key_length = (uint8_t)request->key.length;
    memcpy(block->key, request->key.at, request->key.length);
    if (request->value_length > JOIN_BUFFER_MAX)
        return begin_in_room(cmd, request, block);
    block->here = request->value_length;
    block->at = ebb_try_bytes(request->value_length + CRLF);
    return block->at ? CMD_BLOCK : refuse(cmd, request, block, STORE_NO_MEMORY);
}

enum cmd_result cmd_set(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    return set_begin(cmd, request, block);
}

enum cmd_result cmd_add(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    return set_begin(cmd, request, block);
}

enum cmd_result cmd_replace(struct cmd_context *cmd, struct request *request,
                            struct cmd_block *block) {
    return set_begin(cmd, request, block);
}

enum cmd_result cmd_cas(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    return set_begin(cmd, request, block);
}

enum cmd_result cmd_append(struct cmd_context *cmd, struct request *request,
                           struct cmd_block *block) {
    return set_begin_join(cmd, request, block);
}

enum cmd_result cmd_prepend(struct cmd_context *cmd, struct request *request,
                            struct cmd_block *block) {
    return set_begin_join(cmd, request, block);
}

void cmd_block_more(struct cmd_context *cmd, struct cmd_block *block, size_t least) {
    size_t bytes = 2 * block->here < least ? least : 2 * block->here;
    if (bytes > block->length)
        bytes = block->length;
    struct store_reservation before = block->reservation;
    struct ebb_span key = {before.value - before.key_length, before.key_length};
    struct store_new likely = likely_of(block);
    enum store_verdict verdict =
        store_reserve(cmd->worker, key, bytes, &likely, cmd->now, &block->reservation);
    if (verdict == STORE_STORED) {
        memcpy(block->reservation.value, before.value, block->here);
        block->at = block->reservation.value;
        block->here = bytes;
    } else {
        struct request request = {.verb = block->verb,
                                  .key = key,
                                  .value_length = block->length,
                                  .noreply = block->noreply};
        refuse(cmd, &request, block, verdict);
    }
    ebb_keep(before.segment);
    store_abandon(cmd->worker, &before);
}

/* --- under the bucket's lock --- */

static enum store_verdict decide_add(const struct store_item *old, struct store_new *new,
                                     void *context) {
    (void)new;
    (void)context;
    return old ? STORE_NOT_STORED : STORE_STORED;
}

static enum store_verdict decide_replace(const struct store_item *old, struct store_new *new,
                                         void *context) {
    (void)new;
    (void)context;
    return old ? STORE_STORED : STORE_NOT_STORED;
}

static enum store_verdict decide_cas(const struct store_item *old, struct store_new *new,
                                     void *context) {
    const struct cmd_block *block = context;
    if (old == NULL)
        return STORE_NOT_FOUND;
    if (block->invalidates && block->cas != 0 && block->cas < old->cas) {
        /* Meta: who recached an older version may still leave it, as a stale one. */
        new->expires = old->expires;
        new->item_flags |= STORE_STALE | (old->item_flags & STORE_WIN_SENT);
        return STORE_STORED;
    }
    return old->cas == block->cas ? STORE_STORED : STORE_EXISTS;
}

/* The version that was joined to. */
static enum store_verdict decide_join(const struct store_item *old, struct store_new *new,
                                      void *context) {
    const uint64_t *joined_cas = context;
    if (old == NULL)
        return STORE_NOT_STORED;
    if (old->cas != *joined_cas)
        return STORE_AGAIN;
    new->client_flags = old->client_flags;
    new->expires = old->expires;
    new->item_flags = old->item_flags &STORE_KEY_BASE64;
    return STORE_STORED;
}

static store_decide *decide_of(enum request_verb verb) {
    switch (verb) {
    case REQUEST_add:
        return decide_add;
    case REQUEST_replace:
        return decide_replace;
    case REQUEST_cas:
        return decide_cas;
    default:
        return NULL;
    }
}

/* Meta: what is not there is made of the block alone. */
static enum store_verdict join_to_nothing(struct cmd_context *cmd, const struct cmd_block *block,
                                          struct store_new *new) {
    struct ebb_span key = {block->key, block->key_length};
    struct store_reservation reservation = {0};
    *new = (struct store_new){.client_flags = block->client_flags,
                              .expires = block->expires,
                              .cas = block->cas_new,
                              .item_flags = block->key_is_base64 ? STORE_KEY_BASE64 : 0};
    if (store_reserve(cmd->worker, key, block->length, new, cmd->now, &reservation) != STORE_STORED)
        return STORE_NOT_STORED;
    memcpy(reservation.value, block->at, block->length);
    return store_commit(cmd->worker, &reservation, cmd->now, new, cmd_decide_absent, NULL);
}

/* One try to store old + added, *length bytes. What was copied while it changed has another cas
 * number by then, so it is not stored. The bucket's version is not asked for: it changes with its
 * other items, too, and a long copy would never be in time. */
static enum store_verdict join_once(struct cmd_context *cmd, const struct cmd_block *block,
                                    struct store_new *new, size_t *length) {
    struct ebb_span key = {block->key, block->key_length};
    struct store_read read;
    if (!store_find(cmd->worker, key, cmd->now, &read))
        return block->creates ? join_to_nothing(cmd, block, new) : STORE_NOT_STORED;
    struct store_item old = read.item;
    if (!store_still(&read))
        return STORE_AGAIN;
    if (block->cas != 0 && block->cas != old.cas)
        return STORE_EXISTS;
    if (too_large(cmd, key.length, old.client_flags, old.value_length + block->length))
        return STORE_NOT_STORED;
    struct store_reservation reservation = {0};
    *new = (struct store_new){
        .client_flags = old.client_flags, .expires = old.expires, .cas = block->cas_new};
    enum store_verdict verdict = store_reserve(cmd->worker, key, old.value_length + block->length,
                                               new, cmd->now, &reservation);
    if (verdict != STORE_STORED)
        return STORE_NOT_STORED;
    bool append = block->verb == REQUEST_append;
    memcpy(reservation.value + (append ? 0 : block->length), old.value, old.value_length);
    memcpy(reservation.value + (append ? old.value_length : 0), block->at, block->length);
    ebb_keep(old.pin);
    *length = old.value_length + block->length;
    return store_commit(cmd->worker, &reservation, cmd->now, new, decide_join, &old.cas);
}

static enum store_verdict join(struct cmd_context *cmd, struct cmd_block *block,
                               struct store_new *new, size_t *length) {
    enum store_verdict verdict;
    do {
        verdict = join_once(cmd, block, new, length);
    } while (verdict == STORE_AGAIN);
    if (block->reservation.record)
        store_abandon(cmd->worker, &block->reservation);
    return verdict;
}

static bool is_join(const struct cmd_block *block) {
    return block->verb == REQUEST_append || block->verb == REQUEST_prepend;
}

static void count(const struct cmd_block *block, enum store_verdict verdict) {
    ebb_count(&ebb_metric_set_stored, 1);
    if (block->verb != REQUEST_cas)
        return;
    if (verdict == STORE_STORED)
        ebb_count(&ebb_metric_cas_hits, 1);
    else
        ebb_count(verdict == STORE_EXISTS ? &ebb_metric_cas_badval : &ebb_metric_cas_misses, 1);
}

static struct ebb_span sentence(enum store_verdict verdict) {
    switch (verdict) {
    case STORE_STORED:
        return EBB_SPAN("STORED");
    case STORE_EXISTS:
        return EBB_SPAN("EXISTS");
    case STORE_NOT_FOUND:
        return EBB_SPAN("NOT_FOUND");
    case STORE_NO_MEMORY:
        return EBB_SPAN("SERVER_ERROR out of memory storing object");
    default:
        return EBB_SPAN("NOT_STORED");
    }
}

/* For a watcher: the key of a set is in its reservation, which is used up when it is told. */
static void remember_key(struct cmd_block *block) {
    if (block->reservation.record == NULL)
        return;
    block->key_length = block->reservation.key_length;
    memcpy(block->key, block->reservation.value - block->key_length, block->key_length);
}

void cmd_block_done(struct cmd_context *cmd, struct cmd_block *block, bool crlf) {
    if (block->at == NULL) {
        if (block->binary.is)
            binary_reply_error(cmd->reply, &block->binary, block->refusal_status, block->refusal);
        else
            cmd_answer(cmd, block->noreply, block->refusal);
        *block = (struct cmd_block){0};
        return;
    }
    if (!crlf) {
        bool noreply = block->noreply, meta = block->meta;
        ebb_count(&ebb_metric_set_stored, 1);
        cmd_block_drop(cmd, block);
        cmd_answer(cmd, noreply && !meta, EBB_SPAN("CLIENT_ERROR bad data chunk"));
        return;
    }
    announced_end(block);
    enum store_verdict verdict;
    size_t length = block->length;
    bool watched = watch_on(WATCH_FETCHERS | WATCH_MUTATIONS);
    if (watched)
        remember_key(block);
    if (watch_on(WATCH_FETCHERS))
        watch_looked_up(cmd, (struct ebb_span){block->key, block->key_length});
    struct store_new new = {.client_flags = block->client_flags,
                            .expires = block->expires,
                            .cas = block->cas_new,
                            .item_flags = block->key_is_base64 ? STORE_KEY_BASE64 : 0};
    if (is_join(block))
        verdict = join(cmd, block, &new, &length);
    else
        verdict = store_commit(cmd->worker, &block->reservation, cmd->now, &new,
                               decide_of(block->verb), block);
    count(block, verdict);
    if (watch_on(WATCH_MUTATIONS) && watched)
        watch_stored(cmd, block->verb, (struct ebb_span){block->key, block->key_length}, verdict,
                     new.expires, length);
    if (block->meta)
        meta_set_answer(cmd, block, verdict, new.cas,
                        verdict == STORE_STORED ? length : block->length);
    else if (block->binary.is)
        binary_store_answer(cmd, block, verdict, new.cas);
    else
        cmd_answer(cmd, block->noreply, sentence(verdict));
    block->at = NULL;
    block->length = 0;
    block->cas_new = 0;
    block->meta = block->invalidates = block->key_is_base64 = block->creates = false;
    block->binary.is = false;
    block->reservation = (struct store_reservation){0};
}

void cmd_block_drop(struct cmd_context *cmd, struct cmd_block *block) {
    announced_end(block);
    if (block->reservation.record)
        store_abandon(cmd->worker, &block->reservation);
    *block = (struct cmd_block){0};
}
