/* incr -- incr and decr.
 *
 * A number that still fits its bytes is changed where it lies, blanks behind it, under the bucket's
 * lock. One that has grown, or whose value is longer than what may be changed in place, gets a new
 * version: room is reserved outside the lock, and the sum is made anew inside it.
 *
 * 1. The sum is always made from the version that is replaced. */
#include "incr.h"

#include "metrics.h"
#include "watchers.h"

/* Bytes of an item as memcached counts them: it takes no number from one that it keeps in chunks.
 */
#define NUMERIC_ITEM_MAX (512 * 1024)

/* The new number's digits; false when the old is none, or another cas was wanted. */
static bool add_up(struct delta *delta, const struct store_item *old) {
    uint64_t number;
    struct ebb_span text = {old->value, old->value_length};
    delta->outcome = DELTA_NOT_NUMERIC;
    if (old->value_length == 0 ||
        cmd_item_size(delta->key_length, old->client_flags, old->value_length) > NUMERIC_ITEM_MAX)
        return false;
    if (delta->cas_wanted != 0 && delta->cas_wanted != old->cas) {
        delta->outcome = DELTA_EXISTS;
        return false;
    }
    if (!number_u64(text, &number))
        return false;
    delta->expires_before = old->expires;
    delta->client_flags_before = old->client_flags;
    if (delta->negative)
        number = delta->amount > number ? 0 : number - delta->amount;
    else
        number += delta->amount;
    delta->digits_count = number_write(delta->digits, number);
    delta->length_needed =
        delta->digits_count > old->value_length ? delta->digits_count : old->value_length;
    return true;
}

static void write_padded(const struct delta *delta, char *at, size_t length) {
    memcpy(at, delta->digits, delta->digits_count);
    memset(at + delta->digits_count, ' ', length - delta->digits_count);
}

static void update_number(struct store_update *update, void *context) {
    struct delta *delta = context;
    if (!add_up(delta, &update->item))
        return;
    if (update->value == NULL || delta->digits_count > update->item.value_length) {
        delta->outcome = DELTA_GROWS;
        return;
    }
    write_padded(delta, update->value, update->item.value_length);
    update->cas = delta->cas_new;
    update->cas_told = &delta->cas;
    update->changed = true;
    if (delta->sets_expires)
        update->expires = delta->expires;
    delta->outcome = DELTA_DONE;
}

static enum store_verdict decide_number(const struct store_item *old, struct store_new *new,
                                        void *context) {
    struct delta *delta = context;
    delta->outcome = DELTA_MISS;
    if (old == NULL || !add_up(delta, old))
        return STORE_NOT_STORED;
    if (delta->length_needed != delta->reservation->value_length)
        return STORE_AGAIN;
    write_padded(delta, delta->reservation->value, delta->reservation->value_length);
    new->client_flags = old->client_flags;
    new->expires = delta->sets_expires ? delta->expires : old->expires;
    new->item_flags = old->item_flags &STORE_KEY_BASE64;
    delta->outcome = DELTA_DONE;
    return STORE_STORED;
}

/* Stores a new version; delta->length_needed is a guess at first. */
static enum store_verdict grow(struct cmd_context *cmd, struct ebb_span key, struct delta *delta) {
    enum store_verdict verdict;
    do {
        struct store_reservation reservation = {0};
        struct store_new new = {
            .client_flags = delta->client_flags_before,
            .expires = delta->sets_expires ? delta->expires : delta->expires_before,
            .cas = delta->cas_new,
        };
        verdict =
            store_reserve(cmd->worker, key, delta->length_needed, &new, cmd->now, &reservation);
        if (verdict != STORE_STORED)
            return STORE_NO_MEMORY;
        delta->reservation = &reservation;
        verdict = store_commit(cmd->worker, &reservation, cmd->now, &new, decide_number, delta);
        delta->cas = new.cas;
    } while (verdict == STORE_AGAIN);
    return verdict;
}

static void count(const struct delta *delta) {
    if (delta->outcome == DELTA_MISS && !delta->creates)
        ebb_count(delta->negative ? &ebb_metric_decr_misses : &ebb_metric_incr_misses, 1);
    if (delta->outcome == DELTA_DONE)
        ebb_count(delta->negative ? &ebb_metric_decr_hits : &ebb_metric_incr_hits, 1);
}

enum delta_outcome delta_add(struct cmd_context *cmd, struct ebb_span key, struct delta *delta) {
    if (watch_on(WATCH_FETCHERS))
        watch_looked_up(cmd, key);
    delta->outcome = DELTA_MISS;
    delta->key_length = key.length;
    struct store_may may = {delta->expires, delta->cas_new};
    if (store_update_may(cmd->worker, key, cmd->now, may, update_number, delta) &&
        delta->outcome == DELTA_GROWS && grow(cmd, key, delta) == STORE_NO_MEMORY) {
        ebb_count(&ebb_metric_no_memory, 1);
        return DELTA_NO_MEMORY;
    }
    count(delta);
    return delta->outcome;
}

enum store_verdict delta_create(struct cmd_context *cmd, struct ebb_span key, uint64_t initial,
                                struct store_new *new, struct delta *delta) {
    struct store_reservation reservation = {0};
    delta->digits_count = number_write(delta->digits, initial);
    if (store_reserve(cmd->worker, key, delta->digits_count, new, cmd->now, &reservation) !=
        STORE_STORED)
        return STORE_NO_MEMORY;
    memcpy(reservation.value, delta->digits, delta->digits_count);
    enum store_verdict verdict =
        store_commit(cmd->worker, &reservation, cmd->now, new, cmd_decide_absent, NULL);
    delta->cas = new->cas;
    if (verdict == STORE_STORED && watch_on(WATCH_FETCHERS))
        watch_fetched(cmd, key, false, 0);
    if (verdict == STORE_STORED && watch_on(WATCH_MUTATIONS))
        watch_stored(cmd, REQUEST_add, key, verdict, new->expires, delta->digits_count);
    return verdict;
}

static enum cmd_result change(struct cmd_context *cmd, const struct request *request,
                              bool negative) {
    struct delta delta = {.negative = negative, .amount = request->number};
    switch (delta_add(cmd, request->key, &delta)) {
    case DELTA_DONE:
        cmd_answer(cmd, request->noreply, (struct ebb_span){delta.digits, delta.digits_count});
        break;
    case DELTA_NOT_NUMERIC:
        cmd_answer(cmd, request->noreply,
                   EBB_SPAN("CLIENT_ERROR cannot increment or decrement non-numeric value"));
        break;
    case DELTA_NO_MEMORY:
        cmd_answer(cmd, request->noreply, EBB_SPAN("SERVER_ERROR out of memory"));
        break;
    default:
        cmd_answer(cmd, request->noreply, EBB_SPAN("NOT_FOUND"));
    }
    return CMD_DONE;
}

enum cmd_result cmd_incr(struct cmd_context *cmd, struct request *request,
                         struct cmd_block *block) {
    (void)block;
    return change(cmd, request, false);
}

enum cmd_result cmd_decr(struct cmd_context *cmd, struct request *request,
                         struct cmd_block *block) {
    (void)block;
    return change(cmd, request, true);
}
