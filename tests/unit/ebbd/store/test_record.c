/* Record: what a header keeps is exact, whatever width it takes, and stays so where the item
 * moves. */
#include "harness.h"
#include "ebbd/store/store.h"
#include <ebb/assert.h>
#include <stdio.h>
#include <string.h>

enum {
    NOW = 1000,
    DAY = 24 * 60 * 60,
    LIFETIME_NARROW = 1 << 24, /* seconds after its segment's birth that a narrow header can keep */
};
#define CAS_NARROW ((uint64_t)1 << 40)

static struct store *open_store(size_t limit) {
    struct store_config config = {
        .limit_bytes = limit, .value_size_max = 1 << 20, .workers = 1, .evict = true};
    return store_new(&config);
}

static void put(struct store_worker *worker, const char *key, const struct store_new *likely,
                struct store_new *new, uint32_t now) {
    struct store_reservation reservation = {0};
    enum store_verdict verdict =
        store_reserve(worker, ebb_span_of(key), 20, likely, now, &reservation);
    ebb_assert(verdict == STORE_STORED, "%s: %d", key, verdict);
    memset(reservation.value, 0, 20);
    memcpy(reservation.value, key, strlen(key));
    ebb_assert(store_commit(worker, &reservation, now, new, NULL, NULL) == STORE_STORED, "%s", key);
}

/* The item, after a look at its value. */
static bool read_now(struct store_worker *worker, const char *key, uint32_t now,
                     struct store_item *item) {
    struct store_read read;
    char value[20] = "";
    do {
        if (!store_find(worker, ebb_span_of(key), now, &read))
            return false;
        *item = read.item;
        ck_assert_uint_eq(item->value_length, sizeof value);
        memcpy(value, item->value, sizeof value);
    } while (!store_still(&read));
    ck_assert_mem_eq(value, key, strlen(key));
    return true;
}

static void check_item(struct store_worker *worker, const char *key, const struct store_new *is,
                       uint32_t now) {
    struct store_item item;
    ck_assert_msg(read_now(worker, key, now, &item), "%s is gone at %u", key, now);
    ck_assert_msg(item.client_flags == is->client_flags, "%s: flags %u", key, item.client_flags);
    ck_assert_msg(item.expires == is->expires, "%s: expires %u, not %u", key, item.expires,
                  is->expires);
    ck_assert_msg(item.cas == is->cas, "%s: cas %lu, not %lu", key, item.cas, is->cas);
    ck_assert_msg((item.item_flags & STORE_KEY_BASE64) == is->item_flags, "%s: marks %u", key,
                  item.item_flags);
}

static const struct store_new kinds[] = {
    {0, 0, 0, 0},
    {0, NOW + 1, 0, 0},
    {0, NOW + 30 * DAY, STORE_KEY_BASE64, 0},
    {0, NOW - 2 + LIFETIME_NARROW, 0, 0}, /* the last that fits, the first that does not */
    {0, NOW - 1 + LIFETIME_NARROW, 0, 0},
    {0, UINT32_MAX, STORE_KEY_BASE64, 0},
    {1, 0, 0, 0},
    {UINT32_MAX, NOW + 60, 0, 0},
    {0, 0, 0, CAS_NARROW - 1},
    {0, 0, 0, CAS_NARROW},
    {0, NOW + 60, STORE_KEY_BASE64, UINT64_MAX - 1},
    {7, NOW + 2000 * DAY, 0, 1},
};
enum { KINDS = sizeof kinds / sizeof *kinds };

START_TEST(what_an_item_gets_is_exact_whatever_its_room_was_made_for) {
    struct store *store = open_store(8 << 20);
    struct store_worker *worker = store_worker_at(store, 0);
    struct store_new got[KINDS][KINDS];
    char key[32];
    for (int likely = 0; likely < KINDS; likely++)
        for (int kind = 0; kind < KINDS; kind++) {
            snprintf(key, sizeof key, "%d-%d", likely, kind);
            got[likely][kind] = kinds[kind];
            put(worker, key, &kinds[likely], &got[likely][kind], NOW);
            ck_assert_uint_ne(got[likely][kind].cas, 0);
        }
    for (int likely = 0; likely < KINDS; likely++)
        for (int kind = 0; kind < KINDS; kind++) {
            snprintf(key, sizeof key, "%d-%d", likely, kind);
            check_item(worker, key, &got[likely][kind], NOW);
        }
    store_check(store);
    store_close(store);
}
END_TEST

START_TEST(a_new_version_over_any_other_is_exact) {
    struct store *store = open_store(8 << 20);
    struct store_worker *worker = store_worker_at(store, 0);
    for (int old = 0; old < KINDS; old++)
        for (int kind = 0; kind < KINDS; kind++) {
            struct store_new was = kinds[old], is = kinds[kind];
            put(worker, "k", &was, &was, NOW);
            put(worker, "k", &is, &is, NOW);
            check_item(worker, "k", &is, NOW);
            if (kinds[kind].cas == 0)
                ck_assert_uint_gt(is.cas, was.cas);
        }
    store_check(store);
    store_close(store);
}
END_TEST

static void set_expires(struct store_update *update, void *context) {
    update->expires = *(const uint32_t *)context;
    update->accessed = true;
}

static void renew(struct store_update *update, void *context) {
    update->cas = 0;
    update->item_flags ^= STORE_STALE | STORE_WIN_SENT;
    update->cas_told = context;
}

START_TEST(an_edit_may_need_a_wider_header) {
    struct store *store = open_store(8 << 20);
    struct store_worker *worker = store_worker_at(store, 0);
    for (int old = 0; old < KINDS; old++)
        for (int kind = 0; kind < KINDS; kind++) {
            struct store_new is = kinds[old];
            uint32_t expires = kinds[kind].expires;
            put(worker, "k", &is, &is, NOW);
            ck_assert(store_update(worker, EBB_SPAN("k"), NOW, expires, set_expires, &expires));
            is.expires = expires;
            check_item(worker, "k", &is, NOW);
            uint64_t cas = 0;
            ck_assert(store_update(worker, EBB_SPAN("k"), NOW, 0, renew, &cas));
            ck_assert_uint_gt(cas, is.cas);
            is.cas = cas;
            check_item(worker, "k", &is, NOW);
        }
    struct store_stats stats;
    store_stats_read(store, &stats);
    ck_assert_uint_eq(stats.items, 1);
    ck_assert_uint_eq(stats.evictions, 0);
    store_check(store);
    store_close(store);
}
END_TEST

START_TEST(an_item_that_is_over_from_the_start_is_never_there) {
    struct store *store = open_store(8 << 20);
    struct store_worker *worker = store_worker_at(store, 0);
    struct store_item item;
    for (uint32_t expires = NOW - 4; expires <= NOW; expires++) {
        struct store_new over = {0, expires, 0, 0};
        put(worker, "over", &over, &over, NOW);
        ck_assert(!read_now(worker, "over", NOW, &item));
        store_check(store);
    }
    store_close(store);
}
END_TEST

/* Threads take the time once a turn, so one may be some seconds behind another. */
START_TEST(an_access_that_is_still_to_come_is_one_of_now) {
    struct store *store = open_store(8 << 20);
    struct store_worker *worker = store_worker_at(store, 0);
    struct store_new new = {0};
    struct store_item item;
    put(worker, "k", &new, &new, NOW);
    for (uint32_t now = NOW - 5; now <= NOW; now++) {
        ck_assert(read_now(worker, "k", now, &item));
        ck_assert_uint_eq(item.last_access, now);
    }
    ck_assert(read_now(worker, "k", NOW + 190 * DAY, &item));
    ck_assert_uint_eq(item.last_access, NOW);
    store_close(store);
}
END_TEST

/* Reads keep the items while others push them from segment to segment; then time goes on for
 * years, and they move again into segments that were born much later. */
START_TEST(an_item_that_moves_keeps_what_it_had) {
    struct store *store = open_store(2 << 20);
    struct store_worker *worker = store_worker_at(store, 0);
    struct store_new got[KINDS];
    char key[32];
    for (int kind = 0; kind < KINDS; kind++) {
        snprintf(key, sizeof key, "stays-%d", kind);
        got[kind] = kinds[kind];
        put(worker, key, &got[kind], &got[kind], NOW);
    }
    struct store_stats before, after;
    store_stats_read(store, &before);
    uint32_t now = NOW;
    for (int i = 0; i < 120000; i++) {
        struct store_new plain = {0};
        snprintf(key, sizeof key, "passes-%d", i);
        put(worker, key, &plain, &plain, now);
        if (i % 40000 == 39999)
            now += 100 * DAY;
        for (int kind = 0; i % 100 == 0 && kind < KINDS; kind++) {
            struct store_read read;
            snprintf(key, sizeof key, "stays-%d", kind);
            for (int times = 0; times < 4; times++)
                if (store_find(worker, ebb_span_of(key), now, &read) && store_still(&read))
                    store_touched(&read);
            if (got[kind].expires == 0 || got[kind].expires > now)
                check_item(worker, key, &got[kind], now);
            else
                ck_assert(!store_find(worker, ebb_span_of(key), now, &read));
        }
    }
    store_stats_read(store, &after);
    ck_assert_uint_gt(after.copied_bytes, before.copied_bytes);
    ck_assert_uint_gt(after.evictions, 10000);
    store_check(store);
    store_close(store);
}
END_TEST

HARNESS_MAIN_COLLECTED("record", what_an_item_gets_is_exact_whatever_its_room_was_made_for,
                       a_new_version_over_any_other_is_exact, an_edit_may_need_a_wider_header,
                       an_item_that_is_over_from_the_start_is_never_there,
                       an_access_that_is_still_to_come_is_one_of_now,
                       an_item_that_moves_keeps_what_it_had)
