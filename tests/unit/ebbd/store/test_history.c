/* Histories: many threads, a store so small that eviction, cleaning, relocation, growing,
 * shrinking, flushes, and limits of another shape happen all the time, and for every key a record
 * of what may be read.
 *
 * Versions (one writer a key). The owner numbers its operations on a key; some numbers delete. It
 * says `started` before and `finished` after each. Whoever reads takes finished and floor before,
 * started after: a hit must lie between, must not be a deleted number, and must be whole. What was
 * seen, missed or flushed raises floor: nothing comes back.
 *
 * Counters (all write). Each success of cas, or of an increment in place, is logged as (key, life,
 * count, cas), where a new life begins when the key was absent. In the end the counts of each life
 * must be 1, 2, 3 ... without gap or repetition, and their cas must rise: no update was lost, no
 * cas was won twice.
 *
 * EBB_HISTORY_SECONDS lengthens it: a soak. */
#include "harness.h"
#include "ebbd/store/store.h"
#include <ebb/assert.h>
#include <ebb/clock.h>
#include <ebb/hash.h>
#include <ebb/mem.h>
#include <ebb/thread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    THREADS_MAX = 8,
    VERSION_KEYS = 400,
    COUNTER_KEYS = 40,
    WAVE_KEYS = 6000, /* added and deleted again: the index grows and shrinks */
    ROUND_OPERATIONS = 20000,
    VALUE_MAX = 12000, /* more than a quarter of the smallest segment: some are huge */
    PADDING_SMALL = 300,
    DELETE_EVERY = 8,
    SECONDS_DEFAULT = 3, /* for each test */
    LIMIT_EVERY = 1500,
};

/* Of segments of 16, 16, 128 and 16 KiB: another one means other slots, too. */
#if defined(__SANITIZE_ADDRESS__) /* stale words of its large frames can hold all of 1 MiB */
static const size_t limits[] = {2 << 20, 3 << 20, 32 << 20, 2 << 20};
#else
static const size_t limits[] = {1 << 20, 2 << 20, 64 << 20, 1 << 20};
#endif
static const size_t limits_without_eviction[] = {6 << 20, 80 << 20, 12 << 20, 40 << 20};
enum { LIMITS = 4, LIMIT_MOST = 1 << 30 };

struct value {
    uint32_t key, length;
    uint64_t number, count;
    uint64_t sum; /* of all other bytes, the padding after it too */
};

struct key_state {
    _Atomic uint64_t started, finished, floor;
};

struct success {
    uint32_t key, life;
    uint64_t count, cas;
};

struct round {
    struct store *store;
    bool evict;
    int threads;
    _Atomic uint32_t now;
    _Atomic uint32_t lives;
    struct key_state state[VERSION_KEYS];
};

struct player {
    struct round *round;
    struct store_worker *worker;
    int index;
    uint32_t wave;
    uint64_t random, hits, misses;
    size_t successes;
    struct success *log; /* ROUND_OPERATIONS of them */
    char *buffer;        /* VALUE_MAX */
};

static uint32_t chance(struct player *me, uint32_t below) {
    me->random = me->random * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(me->random >> 33) % below;
}

static uint32_t now_of(struct player *me) {
    return atomic_load(&me->round->now);
}

/* ---- values ---- */

static uint64_t value_sum(const char *bytes, size_t length) {
    struct value head;
    memcpy(&head, bytes, sizeof head);
    head.sum = 0;
    return ebb_hash(bytes + sizeof head, length - sizeof head, ebb_hash(&head, sizeof head, 7));
}

static void value_write(char *out, size_t length, uint32_t key, uint64_t number, uint64_t count) {
    struct value head = {.key = key, .length = (uint32_t)length, .number = number, .count = count};
    memset(out + sizeof head, (int)(number * 31 + count), length - sizeof head);
    memcpy(out, &head, sizeof head);
    head.sum = value_sum(out, length);
    memcpy(out, &head, sizeof head);
}

static struct value value_checked(const char *bytes, size_t length, uint32_t key) {
    struct value head;
    ebb_assert(length >= sizeof head, "key %u: %zu bytes", key, length);
    memcpy(&head, bytes, sizeof head);
    ebb_assert(head.key == key, "key %u: the value of key %u", key, head.key);
    ebb_assert(head.length == length && head.sum == value_sum(bytes, length),
               "key %u: a torn value, number %lu, count %lu, %zu of %u bytes", key, head.number,
               head.count, length, head.length);
    return head;
}

/* Few lengths, so that many sets are written in place; some are huge. */
static size_t length_for(struct player *me) {
    uint32_t kind = chance(me, 100);
    if (kind == 0)
        return VALUE_MAX - chance(me, 100);
    return sizeof(struct value) + (kind < 50 ? 40 : chance(me, PADDING_SMALL));
}

/* Races with writing in place, and is meant to: what store_still refuses is thrown away. A function
 * of its own, so that tests/race can name it. */
static __attribute__((noinline)) void copy_value(char *out, const struct store_read *read) {
    memcpy(out, read->item.value, read->item.value_length);
}

static bool read_value(struct player *me, const char *key, struct store_read *read) {
    do {
        if (!store_find(me->worker, ebb_span_of(key), now_of(me), read))
            return false;
        ebb_assert(read->item.value_length <= VALUE_MAX, "%zu bytes", read->item.value_length);
        copy_value(me->buffer, read);
    } while (!store_still(read));
    ebb_assert(read->item.expires == 0 || read->item.expires > read->now,
               "a hit at %u on what expires at %u", read->now, read->item.expires);
    ebb_assert(read->item.client_flags == 7, "flags %u", read->item.client_flags);
    if (chance(me, 2))
        store_touched(read);
    return true;
}

/* ---- versions ---- */

static bool is_delete(uint64_t number) {
    return number % DELETE_EVERY == DELETE_EVERY - 1;
}

static void raise_to(_Atomic uint64_t *at, uint64_t wanted) {
    uint64_t old = atomic_load(at);
    while (old < wanted && !atomic_compare_exchange_weak(at, &old, wanted))
        continue;
}

static void remove_it(struct store_update *update, void *context) {
    (void)context;
    update->remove = true;
}

static void touch_it(struct store_update *update, void *context) {
    update->expires = *(uint32_t *)context;
    update->accessed = true;
}

static uint32_t expiry_for(struct player *me) {
    if (!me->round->evict || chance(me, 3) != 0)
        return 0;
    return now_of(me) + 1 + (chance(me, 2) ? chance(me, 4) : chance(me, 4000));
}

static bool set_value(struct player *me, const char *key, uint32_t number_of_key, uint64_t number) {
    struct store_reservation reservation = {0};
    size_t length = length_for(me);
    uint32_t expires = expiry_for(me);
    enum store_verdict verdict =
        store_reserve(me->worker, ebb_span_of(key), length, &(struct store_new){.expires = expires},
                      now_of(me), &reservation);
    ebb_assert(verdict == STORE_STORED, "reserving %zu bytes: %d", length, verdict);
    value_write(reservation.value, length, number_of_key, number, 0);
    if (chance(me, 50) == 0) {
        store_abandon(me->worker, &reservation);
        return false;
    }
    struct store_new new = {.expires = expires, .client_flags = 7};
    verdict = store_commit(me->worker, &reservation, now_of(me), &new, NULL, NULL);
    ebb_assert(verdict == STORE_STORED, "storing %zu bytes: %d", length, verdict);
    return true;
}

static void version_write(struct player *me) {
    uint32_t number_of_key =
        chance(me, VERSION_KEYS / (uint32_t)me->round->threads) * (uint32_t)me->round->threads +
        (uint32_t)me->index;
    struct key_state *state = &me->round->state[number_of_key];
    char key[32];
    snprintf(key, sizeof key, "version-%u", number_of_key);
    uint64_t number = atomic_load(&state->started) + 1;
    atomic_store(&state->started, number);
    if (is_delete(number)) {
        store_update(me->worker, ebb_span_of(key), now_of(me), 0, remove_it, NULL);
    } else {
        while (!set_value(me, key, number_of_key, number))
            continue;
        uint32_t expires = expiry_for(me);
        if (chance(me, 4) == 0)
            store_update(me->worker, ebb_span_of(key), now_of(me), expires, touch_it, &expires);
    }
    atomic_store(&state->finished, number);
}

static void version_read(struct player *me) {
    uint32_t number_of_key = chance(me, VERSION_KEYS);
    struct key_state *state = &me->round->state[number_of_key];
    char key[32];
    snprintf(key, sizeof key, "version-%u", number_of_key);
    uint64_t finished = atomic_load(&state->finished), floor = atomic_load(&state->floor);
    struct store_read read;
    bool hit = read_value(me, key, &read);
    uint64_t started = atomic_load(&state->started);
    if (hit) {
        uint64_t number = value_checked(me->buffer, read.item.value_length, number_of_key).number;
        ebb_assert(number >= finished && number >= floor && number <= started && !is_delete(number),
                   "key %u: read %lu; finished %lu and floor %lu before, started %lu after",
                   number_of_key, number, finished, floor, started);
        raise_to(&state->floor, number);
        me->hits++;
        return;
    }
    me->misses++;
    raise_to(&state->floor, finished + 1);
    bool deleted = finished == 0;
    for (uint64_t number = finished; number <= started; number++)
        deleted |= is_delete(number);
    ebb_assert(me->round->evict || deleted, "key %u: lost; finished %lu before, started %lu after",
               number_of_key, finished, started);
}

/* ---- counters ---- */

static void success(struct player *me, uint32_t key, const struct value *value, uint64_t cas) {
    me->log[me->successes++] = (struct success){key, (uint32_t)value->number, value->count, cas};
}

static enum store_verdict if_same(const struct store_item *old, struct store_new *new,
                                  void *context) {
    (void)new;
    uint64_t seen = *(uint64_t *)context;
    if (old == NULL)
        return seen == 0 ? STORE_STORED : STORE_NOT_FOUND;
    return old->cas == seen ? STORE_STORED : STORE_EXISTS;
}

static void counter_cas(struct player *me, uint32_t number_of_key, const char *key) {
    struct store_read read;
    struct value value = {.count = 0};
    uint64_t seen = 0;
    if (read_value(me, key, &read)) {
        value = value_checked(me->buffer, read.item.value_length, number_of_key);
        seen = read.item.cas;
    } else {
        value.number = atomic_fetch_add(&me->round->lives, 1) + 1;
    }
    value.count++;
    size_t length = length_for(me);
    struct store_reservation reservation = {0};
    enum store_verdict verdict = store_reserve(me->worker, ebb_span_of(key), length,
                                               &(struct store_new){0}, now_of(me), &reservation);
    ebb_assert(verdict == STORE_STORED, "reserving %zu bytes: %d", length, verdict);
    value_write(reservation.value, length, number_of_key, value.number, value.count);
    struct store_new new = {.client_flags = 7};
    verdict = store_commit(me->worker, &reservation, now_of(me), &new, if_same, &seen);
    ebb_assert(verdict != STORE_NO_MEMORY, "storing %zu bytes: no memory", length);
    if (verdict == STORE_STORED)
        success(me, number_of_key, &value, new.cas);
}

struct increment {
    struct value value;
    uint64_t cas;
    uint32_t key;
    bool done;
};

static void increment_it(struct store_update *update, void *context) {
    struct increment *told = context;
    if (update->value == NULL)
        return;
    size_t length = update->item.value_length;
    struct value value = value_checked(update->value, length, told->key);
    value_write(update->value, length, told->key, value.number, value.count + 1);
    memcpy(&told->value, update->value, sizeof told->value);
    update->cas = 0;
    update->cas_told = &told->cas;
    told->done = true;
}

static void counter_operation(struct player *me) {
    uint32_t number_of_key = chance(me, COUNTER_KEYS);
    char key[32];
    snprintf(key, sizeof key, "counter-%u", number_of_key);
    if (chance(me, 2)) {
        counter_cas(me, number_of_key, key);
        return;
    }
    if (chance(me, 200) == 0) {
        store_update(me->worker, ebb_span_of(key), now_of(me), 0, remove_it, NULL);
        return;
    }
    struct increment told = {.key = number_of_key};
    if (store_update(me->worker, ebb_span_of(key), now_of(me), 0, increment_it, &told) && told.done)
        success(me, number_of_key, &told.value, told.cas);
}

/* ---- what goes on beside ---- */

static void wave_operation(struct player *me) {
    char key[32];
    uint32_t at = me->wave++ % (2 * WAVE_KEYS);
    snprintf(key, sizeof key, "wave-%d-%u", me->index, at % WAVE_KEYS);
    if (at >= WAVE_KEYS) {
        store_update(me->worker, ebb_span_of(key), now_of(me), 0, remove_it, NULL);
        return;
    }
    struct store_reservation reservation = {0};
    enum store_verdict verdict = store_reserve(me->worker, ebb_span_of(key), 8,
                                               &(struct store_new){0}, now_of(me), &reservation);
    ebb_assert(verdict == STORE_STORED, "reserving 8 bytes: %d", verdict);
    memset(reservation.value, 'w', 8);
    struct store_new new = {.client_flags = 7};
    store_commit(me->worker, &reservation, now_of(me), &new, NULL, NULL);
}

static void flush(struct player *me) {
    struct round *round = me->round;
    uint64_t finished[VERSION_KEYS];
    for (int i = 0; i < VERSION_KEYS; i++)
        finished[i] = atomic_load(&round->state[i].finished);
    store_flush(round->store, now_of(me), now_of(me));
    for (int i = 0; i < VERSION_KEYS; i++)
        raise_to(&round->state[i].floor, finished[i] + 1);
}

/* The first player keeps the clock, sweeps, flushes and changes the limit. */
static void keep_house(struct player *me, int i) {
    struct round *round = me->round;
    if (i % 1000 == 0) {
        uint32_t now = atomic_fetch_add(&round->now, 1) + 1;
        while (store_tick(round->store, now))
            continue;
    }
    if (round->evict && i % 7001 == 7000)
        flush(me);
    if (i % LIMIT_EVERY == LIMIT_EVERY - 1) {
        size_t limit = (round->evict ? limits : limits_without_eviction)[chance(me, LIMITS)];
        ebb_assert(store_limit_set(round->store, limit, now_of(me)), "limit %zu refused", limit);
    }
}

static void play(void *arg) {
    struct player *me = arg;
    for (int i = 0; i < ROUND_OPERATIONS; i++) {
        if (me->index == 0)
            keep_house(me, i);
        uint32_t what = chance(me, 100);
        if (what < 30)
            version_write(me);
        else if (what < 60)
            version_read(me);
        else if (what < 80)
            counter_operation(me);
        else
            wave_operation(me);
    }
}

/* ---- judging ---- */

static int by_life(const void *a, const void *b) {
    const struct success *x = a, *y = b;
    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    if (x->life != y->life)
        return x->life < y->life ? -1 : 1;
    return x->count < y->count ? -1 : x->count > y->count;
}

static void judge_counters(const struct player *player, int threads) {
    struct success *all = ebb_bytes((size_t)threads * ROUND_OPERATIONS * sizeof *all);
    size_t n = 0;
    for (int i = 0; i < threads; i++) {
        memcpy(all + n, player[i].log, player[i].successes * sizeof *all);
        n += player[i].successes;
    }
    qsort(all, n, sizeof *all, by_life);
    for (size_t i = 0; i < n; i++) {
        bool first = i == 0 || all[i].key != all[i - 1].key || all[i].life != all[i - 1].life;
        ebb_assert(all[i].count == (first ? 1 : all[i - 1].count + 1),
                   "key %u, life %u: count %lu after %lu: an update was lost or won twice",
                   all[i].key, all[i].life, all[i].count, first ? 0 : all[i - 1].count);
        ebb_assert(first || all[i].cas > all[i - 1].cas, "key %u: cas %lu after %lu", all[i].key,
                   all[i].cas, all[i - 1].cas);
    }
    ck_assert_uint_gt(n, ROUND_OPERATIONS / 20);
}

/* What is in the store when all have stopped is the last version, or nothing. */
static void judge_versions(struct player *me) {
    for (uint32_t i = 0; i < VERSION_KEYS; i++) {
        char key[32];
        struct store_read read;
        snprintf(key, sizeof key, "version-%u", i);
        uint64_t finished = atomic_load(&me->round->state[i].finished);
        bool hit = read_value(me, key, &read);
        ebb_assert(!hit || value_checked(me->buffer, read.item.value_length, i).number == finished,
                   "key %u: an old version in the end", i);
        ebb_assert(hit || me->round->evict || finished == 0 || is_delete(finished),
                   "key %u: lost in the end", i);
    }
}

static struct store_stats play_round(int threads, bool evict, uint64_t seed) {
    ebb_collect_fully(EBB_CAUSE_demand);
    struct round *round = ebb_bytes(sizeof *round);
    memset(round, 0, sizeof *round);
    struct store_config config = {.limit_bytes = evict ? 1 << 20 : 6 << 20,
                                  .limit_most = LIMIT_MOST,
                                  .value_size_max = 1 << 20,
                                  .workers = threads,
                                  .evict = evict};
    struct store *store = store_new(&config);
    round->store = store;
    round->threads = threads;
    round->evict = evict;
    round->now = 2;
    struct player player[THREADS_MAX] = {0};
    struct ebb_thread *thread[THREADS_MAX];
    for (int i = 0; i < threads; i++)
        player[i] = (struct player){.round = round,
                                    .worker = store_worker_at(store, i),
                                    .index = i,
                                    .random = seed * 1000 + (uint64_t)i,
                                    .log = ebb_bytes(ROUND_OPERATIONS * sizeof *player->log),
                                    .buffer = ebb_bytes(VALUE_MAX)};
    for (int i = 0; i < threads; i++)
        ck_assert_int_eq(ebb_thread_start(&thread[i], "player", play, &player[i]), EBB_OK);
    uint64_t hits = 0;
    for (int i = 0; i < threads; i++) {
        ebb_thread_join(thread[i]);
        hits += player[i].hits;
    }
    judge_counters(player, threads);
    judge_versions(&player[0]);
    ck_assert_uint_gt(hits, 100);
    store_check(store);
    struct store_stats stats;
    store_stats_read(store, &stats);
    store_close(store);
    return stats;
}

static void play_for_a_while(bool evict) {
    const char *text = getenv("EBB_HISTORY_SECONDS");
    uint64_t end =
        ebb_clock_ns() + (text ? strtoull(text, NULL, 10) : SECONDS_DEFAULT) * 1000000000ull;
    static const int threads[] = {2, 4, 8, 3};
    struct store_stats sum = {0};
    uint64_t round = 0;
    /* On, in a slow build too, until there was something to see. */
    for (; round < 4 || ebb_clock_ns() < end || (evict && sum.evictions <= 1000 && round < 60);
         round++) {
        struct store_stats stats = play_round(threads[round % 4], evict, round + 1);
        sum.evictions += stats.evictions;
        sum.cleaned_segments += stats.cleaned_segments;
        sum.copied_bytes += stats.copied_bytes;
    }
    printf("%lu rounds: %lu evictions, %lu segments cleaned, %lu bytes moved\n", round,
           sum.evictions, sum.cleaned_segments, sum.copied_bytes);
    ck_assert_uint_gt(sum.copied_bytes, 100000);
    ck_assert_uint_gt(sum.cleaned_segments, 10);
    ck_assert(evict ? sum.evictions > 1000 : sum.evictions == 0);
}

START_TEST(histories_hold_while_items_are_evicted_moved_and_flushed) {
    play_for_a_while(true);
}
END_TEST

START_TEST(nothing_is_lost_without_eviction_while_segments_are_cleaned) {
    play_for_a_while(false);
}
END_TEST

HARNESS_MAIN_COLLECTED("history", histories_hold_while_items_are_evicted_moved_and_flushed,
                       nothing_is_lost_without_eviction_while_segments_are_cleaned)
