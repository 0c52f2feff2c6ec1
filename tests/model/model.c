/* model -- the store's concurrency, small enough to be explored whole.
 *
 * Two buckets, three segment entries, four pieces of memory with two records each, two keys with
 * the same tag. A reader looks for key K; a writer sets K twice, in new records or in place; an
 * evictor takes one or two segments, whose items move or go, and whose entries and memory are used
 * again; a splitter splits the one bucket and merges it again; a reshaper copies both buckets to
 * another index, in which the bits of a slot mean something else. They follow index.c, reshape.c,
 * store.c, segment.c and evict.c step by step: a step is one access to shared memory.
 *
 * What must hold in every interleaving:
 * 1. a hit is one whole value that was K's at some moment of the search, a miss was true at some
 *    moment of it: nothing torn, foreign, lost or risen from the dead;
 * 2. nobody follows a null root or touches memory that was given to somebody else;
 * 3. in the end K and J have one slot each, in their own bucket, which leads to a whole record of a
 *    segment that is not free, with the last value.
 *
 * Each mutant leaves out one step that the code takes care to do; the search must find it out. */
#include "explore.h"
#include <stdio.h>
#include <stdlib.h>

enum { K = 1, J = 2, CELLS = 2, ENTRIES = 3, OBJECTS = 4, J_VALUE = 7 };
enum { FREE, OPEN, LEAVING };
enum { NONE = 0, GARBAGE = 9 };

/* ---- shared memory ---- */

enum { BUCKETS = 0, VERSION_0 = 1, SLOT_0 = 3, ROOT_0 = 7, STATE_0 = 11, GENERATION_0 = 15 };
enum { LISTED_0 = 19, RECORD_0 = 23, LEAD = 0, A = 1, B = 2, FIELDS = 3 };
enum { INDEX = 47, LAYOUT = 48, OTHER_0 = 49 }; /* the index and the layout that are in force */
/* Buckets 0 and 1 are the first index, 2 and 3 the other one. */
#define VERSION(b)    ((uint8_t)((b) < 2 ? VERSION_0 + (b) : OTHER_0 + (b)-2))
#define SLOT(b, i)    ((uint8_t)((b) < 2 ? SLOT_0 + 2 * (b) + (i) : OTHER_0 + 2 + 2 * ((b)-2) + (i)))
#define ROOT(id)      ((uint8_t)(ROOT_0 + (id)))
#define STATE(id)     ((uint8_t)(STATE_0 + (id)))
#define GENERATION(n) ((uint8_t)(GENERATION_0 + (n)))
#define LISTED(id)    ((uint8_t)(LISTED_0 + (id))) /* 1: in the free list, under the store's lock */

/* A place in each of the two layouts. */
#define PLACE_IN(layout, id, cell)                                                                 \
    ((uint8_t)((layout) ? (cell) << 3 | (id) << 1 | 1 : (id) << 2 | (cell) << 1 | 1))
#define PLACE_ID_IN(layout, place)   ((uint8_t)((layout) ? (place) >> 1 & 3 : (place) >> 2))
#define PLACE_CELL_IN(layout, place) ((uint8_t)((layout) ? (place) >> 3 : (place) >> 1 & 1))
#define PLACE(id, cell)              PLACE_IN(T->layout, id, cell)
#define PLACE_ID(place)              PLACE_ID_IN(T->layout, place)
#define PLACE_CELL(place)            PLACE_CELL_IN(T->layout, place)

static enum mutant {
    SOUND,
    NO_CHECK_BEFORE_FOLLOWING,
    NO_CHECK_AFTER_COPYING,
    MISS_WITHOUT_ASKING_HOME,
    MISS_WITHOUT_VERSION_AGAIN,
    LOCK_WITHOUT_ASKING_HOME,
    COMMIT_WITHOUT_ALIVE,
    COMMIT_WITHOUT_GENERATION,
    ALIVE_BEFORE_LOCK,
    MARK_NOT_FENCED,
    WALK_BEFORE_MARK,
    ROOT_CLEARED_FIRST,
    MOVE_WITHOUT_LOOKING_AGAIN,
    SLOT_BEFORE_RECORD,
    SPLIT_WITHOUT_SECOND_LOCK,
    RESHAPE_WITHOUT_LOCKS,
    RESHAPE_UNLOCKS_THE_OLD,
    RESHAPE_LAYOUT_LAST,
    READER_NOT_SCANNED,
    ROOM_NOT_SCANNED,
    MUTANTS,
} mutant;

/* What a scenario's threads do. */
static struct {
    bool in_place; /* the writer's second set */
    int sets;
    int victims; /* segments that leave, */
    uint8_t victim[2];
    bool keeps[2]; /* do their items stay? */
    bool buffered;
    int resizes; /* split, merge, split ... (merge first when there are two buckets) */
    bool reshapes;
} plan;

static uint8_t home(uint8_t key, uint8_t buckets) {
    return buckets == 2 && key == K;
}

static struct pointer pointer_of(uint8_t root) {
    return (struct pointer){root & 0xF, root >> 4};
}

/* Address of a record's field; a wrong pointer is what the model is there to find. */
static uint8_t at(struct pointer data, uint8_t cell, uint8_t field) {
    if (data.object == 0)
        wrong = "a null root was followed";
    else if (S->turn[data.object] != data.turn)
        wrong = "memory was used that belongs to somebody else";
    return (uint8_t)(RECORD_0 + ((data.object - 1) * CELLS + cell) * FIELDS + field);
}
static bool held(uint8_t object) {
    for (int id = 1; id <= ENTRIES; id++)
        if (pointer_of(S->word[ROOT(id)]).object == object)
            return true;
    for (int i = 0; i < THREADS_MAX; i++) {
        const struct thread *thread = &S->thread[i];
        for (int n = 0; n < thread->waiting; n++) /* a root on its way to memory */
            if (thread->buffer[n].address > ROOT_0 && thread->buffer[n].address <= ROOT(ENTRIES) &&
                pointer_of(thread->buffer[n].value).object == object)
                return true;
        if ((thread->data.object == object && mutant != READER_NOT_SCANNED) ||
            (thread->reservation.object == object && mutant != ROOM_NOT_SCANNED))
            return true;
    }
    return false;
}

/* The collector: memory that nothing holds is given out again. NULL root: none. */
static uint8_t object_new(void) {
    for (uint8_t object = 1; object <= OBJECTS; object++) {
        if (held(object))
            continue;
        S->turn[object]++;
        struct pointer data = {object, S->turn[object]};
        for (uint8_t cell = 0; cell < CELLS; cell++) {
            S->word[at(data, cell, LEAD)] = 0;
            S->word[at(data, cell, A)] = S->word[at(data, cell, B)] = GARBAGE;
        }
        return (uint8_t)(object | S->turn[object] << 4);
    }
    return 0;
}

static void current_is(uint8_t value) {
    S->current = value;
    if (S->reading)
        S->allowed |= (uint8_t)(1 << value);
}

/* ---- steps that several threads take ---- */

#define TAKE(b)                                                                                    \
    for (;;) {                                                                                     \
        FENCE;                                                                                     \
        if (!(S->word[VERSION(b)] & 1)) {                                                          \
            S->word[VERSION(b)]++;                                                                 \
            break;                                                                                 \
        }                                                                                          \
    }
#define UNLOCK(b)                                                                                  \
    do {                                                                                           \
        FENCE;                                                                                     \
        S->word[VERSION(b)]++;                                                                     \
    } while (0)
/* Which index is in force, and what a slot means there; where none comes it costs no step. */
#define LOAD_INDEX                                                                                 \
    do {                                                                                           \
        if (plan.reshapes)                                                                         \
            LOAD(T->index, INDEX);                                                                 \
    } while (0)
#define LOAD_LAYOUT                                                                                \
    do {                                                                                           \
        if (plan.reshapes)                                                                         \
            LOAD(T->layout, LAYOUT);                                                               \
    } while (0)
/* Who finds the bucket locked looks for it again. */
#define LOCK_HOME(k)                                                                               \
    for (;;) {                                                                                     \
        LOAD_INDEX;                                                                                \
        LOAD(T->buckets, BUCKETS);                                                                 \
        T->bucket = 2 * T->index + home(k, T->buckets);                                            \
        FENCE;                                                                                     \
        if (S->word[VERSION(T->bucket)] & 1)                                                       \
            continue;                                                                              \
        S->word[VERSION(T->bucket)]++;                                                             \
        if (mutant == LOCK_WITHOUT_ASKING_HOME)                                                    \
            break;                                                                                 \
        LOAD_INDEX;                                                                                \
        LOAD(T->buckets, BUCKETS);                                                                 \
        if (2 * T->index + home(k, T->buckets) == T->bucket)                                       \
            break;                                                                                 \
        UNLOCK(T->bucket);                                                                         \
    }                                                                                              \
    LOAD_LAYOUT
/* T->found: 1 + the slot that leads to exactly this place. Under the bucket's lock. */
#define FIND_PLACE(place)                                                                          \
    for (T->found = 0, T->i = 0; T->i < 2; T->i++) {                                               \
        LOAD(T->slot, SLOT(T->bucket, T->i));                                                      \
        if (T->slot == (place))                                                                    \
            T->found = T->i + 1;                                                                   \
    }
#define ALIVE(to, id, generation_)                                                                 \
    do {                                                                                           \
        LOAD(T->a, STATE(id));                                                                     \
        LOAD(T->b, GENERATION(id));                                                                \
        (to) = T->a == OPEN && (T->b == (generation_) || mutant == COMMIT_WITHOUT_GENERATION);     \
    } while (0)
/* A room in this thread's chunk, or in a new segment. waits: until an entry is free; else there may
 * be none. */
#define RESERVE(waits)                                                                             \
    do {                                                                                           \
        if (T->chunk_id != 0) {                                                                    \
            LOAD(T->a, ROOT(T->chunk_id));                                                         \
            T->reservation = pointer_of(T->a);                                                     \
            ALIVE(T->found, T->chunk_id, T->chunk_generation);                                     \
            if (!T->found || T->chunk_at == CELLS)                                                 \
                T->chunk_id = 0;                                                                   \
        }                                                                                          \
        if (T->chunk_id == 0) {                                                                    \
            T->reservation = (struct pointer){0, 0};                                               \
            do {                                                                                   \
                FENCE;                                                                             \
                entry_take();                                                                      \
            } while ((waits) && T->chunk_id == 0);                                                 \
            if (T->chunk_id != 0) {                                                                \
                STORE(GENERATION(T->chunk_id), T->chunk_generation);                               \
                STORE(ROOT(T->chunk_id),                                                           \
                      (uint8_t)(T->reservation.object | T->reservation.turn << 4));                \
                STORE(STATE(T->chunk_id), OPEN);                                                   \
                FENCE;                                                                             \
            }                                                                                      \
        }                                                                                          \
        if (T->chunk_id != 0)                                                                      \
            reservation_take();                                                                    \
    } while (0)

/* Under the store's lock: a free entry and memory for it. */
static void entry_take(void) {
    for (uint8_t id = 1; id <= ENTRIES; id++)
        if (S->word[LISTED(id)]) {
            uint8_t root = object_new();
            if (root == 0)
                return;
            S->word[LISTED(id)] = 0;
            T->chunk_id = id;
            T->chunk_generation = S->word[GENERATION(id)] + 1;
            T->chunk_at = 0;
            T->reservation = pointer_of(root);
            return;
        }
}

static void reservation_take(void) {
    T->reservation_id = T->chunk_id;
    T->reservation_generation = T->chunk_generation;
    T->room_cell = T->chunk_at++;
}

/* What a thread no longer needs would only make more states. */
static void forget(void) {
    T->data = (struct pointer){0, 0};
    T->bucket = T->buckets = T->version = T->i = T->slot = T->header = T->a = T->b = T->found = 0;
    T->key = T->index = T->layout = 0;
}

/* ---- the threads ---- */

static void reader(void) {
    BEGIN;
    S->reading = true;
    current_is(S->current);
again:
    forget();
    LOAD_INDEX;
    LOAD(T->buckets, BUCKETS);
    T->bucket = 2 * T->index + home(K, T->buckets);
    LOAD(T->version, VERSION(T->bucket));
    if (T->version & 1)
        goto again;
    for (T->i = 0; T->i < 2; T->i++) {
        LOAD(T->slot, SLOT(T->bucket, T->i));
        if (T->slot == 0)
            continue;
        LOAD_LAYOUT;
        LOAD(T->a, ROOT(PLACE_ID(T->slot)));
        T->data = pointer_of(T->a);
        if (mutant != NO_CHECK_BEFORE_FOLLOWING) {
            LOAD(T->b, VERSION(T->bucket));
            if (T->b != T->version)
                goto again;
        }
        STEP;
        T->header = load(at(T->data, PLACE_CELL(T->slot), LEAD));
        if (T->header != K)
            continue;
        STEP;
        T->a = load(at(T->data, PLACE_CELL(T->slot), A));
        STEP;
        T->b = load(at(T->data, PLACE_CELL(T->slot), B));
        T->data = (struct pointer){0, 0};
        if (mutant != NO_CHECK_AFTER_COPYING) {
            LOAD(T->header, VERSION(T->bucket));
            if (T->header != T->version)
                goto again;
        }
        CHECK(T->a == T->b, "a torn value");
        CHECK(S->allowed >> T->a & 1, "a value that was not K's meanwhile");
        goto done;
    }
    T->data = (struct pointer){0, 0};
    LOAD(T->b, VERSION(T->bucket));
    if (T->b != T->version)
        goto again;
    if (mutant != MISS_WITHOUT_ASKING_HOME) {
        LOAD_INDEX;
        LOAD(T->buckets, BUCKETS);
        if (2 * T->index + home(K, T->buckets) != T->bucket)
            goto again;
        if (mutant != MISS_WITHOUT_VERSION_AGAIN) {
            LOAD(T->b, VERSION(T->bucket));
            if (T->b != T->version)
                goto again;
        }
    }
    CHECK(S->allowed & 1, "a miss, though K was there all the time");
done:
    forget();
    S->reading = false;
    S->allowed = 0;
    END;
}

/* The room's record: header, key and value. */
#define FILL(value)                                                                                \
    do {                                                                                           \
        STEP;                                                                                      \
        store(at(T->reservation, T->room_cell, LEAD), K);                                          \
        STEP;                                                                                      \
        store(at(T->reservation, T->room_cell, A), value);                                         \
        STEP;                                                                                      \
        store(at(T->reservation, T->room_cell, B), value);                                         \
    } while (0)

static void writer(void) {
    BEGIN;
    for (T->pass = 0; T->pass < plan.sets; T->pass++) {
        T->number = T->pass + 2;
        RESERVE(true);
        if (mutant != SLOT_BEFORE_RECORD)
            FILL(T->number);
        for (;;) {
            if (mutant == ALIVE_BEFORE_LOCK)
                ALIVE(T->key, T->reservation_id, T->reservation_generation);
            LOCK_HOME(K);
            if (mutant == COMMIT_WITHOUT_ALIVE)
                break;
            if (mutant != ALIVE_BEFORE_LOCK)
                ALIVE(T->key, T->reservation_id, T->reservation_generation);
            if (T->key)
                break;
            UNLOCK(T->bucket);
            RESERVE(true);
            FILL(T->number);
        }
        for (T->found = 0, T->i = 0; T->i < 2 && !T->found; T->i++) {
            LOAD(T->slot, SLOT(T->bucket, T->i));
            if (T->slot == 0)
                continue;
            LOAD(T->a, ROOT(PLACE_ID(T->slot)));
            T->data = pointer_of(T->a);
            STEP;
            T->header = load(at(T->data, PLACE_CELL(T->slot), LEAD));
            if (T->header == K)
                T->found = T->i + 1;
        }
        for (T->i = 0; !T->found; T->i++) {
            CHECK(T->i < 2, "no slot is empty");
            LOAD(T->slot, SLOT(T->bucket, T->i));
            if (T->slot == 0)
                T->found = T->i + 1;
        }
        if (T->slot != 0 && plan.in_place && T->pass == 1) {
            STEP;
            store(at(T->data, PLACE_CELL(T->slot), A), T->number);
            STEP;
            store(at(T->data, PLACE_CELL(T->slot), B), T->number);
        } else {
            STORE(SLOT(T->bucket, T->found - 1), PLACE(T->reservation_id, T->room_cell));
        }
        T->data = (struct pointer){0, 0};
        UNLOCK(T->bucket);
        current_is(T->number);
        if (mutant == SLOT_BEFORE_RECORD)
            FILL(T->number);
        T->reservation = (struct pointer){0, 0};
        forget();
    }
    END;
}

/* Under the bucket's lock: copies the record to the reservation and lets the slot header there. */
#define MOVE(victim)                                                                               \
    do {                                                                                           \
        STEP;                                                                                      \
        T->a = load(at(T->data, T->cell, A));                                                      \
        STEP;                                                                                      \
        store(at(T->reservation, T->room_cell, A), T->a);                                          \
        STEP;                                                                                      \
        T->b = load(at(T->data, T->cell, B));                                                      \
        STEP;                                                                                      \
        store(at(T->reservation, T->room_cell, B), T->b);                                          \
        STEP;                                                                                      \
        store(at(T->reservation, T->room_cell, LEAD), T->header);                                  \
        STORE(SLOT(T->bucket, T->found - 1), PLACE(T->reservation_id, T->room_cell));              \
    } while (0)

static void evictor(void) {
    BEGIN;
    for (T->pass = 0; T->pass < plan.victims; T->pass++) {
        T->number = plan.victim[T->pass];
        LOAD(T->a, STATE(T->number));
        if (T->a != OPEN)
            continue;
        LOAD(T->a, ROOT(T->number));
        T->data = pointer_of(T->a);
        if (mutant == ROOT_CLEARED_FIRST)
            STORE(ROOT(T->number), 0);
        if (mutant != WALK_BEFORE_MARK)
            STORE(STATE(T->number), LEAVING);
        if (mutant != MARK_NOT_FENCED)
            FENCE;
        for (T->cell = 0; T->cell < CELLS; T->cell++) {
            STEP;
            T->header = load(at(T->data, T->cell, LEAD));
            if (T->header == 0)
                continue;
            LOCK_HOME(T->header);
            FIND_PLACE(PLACE(T->number, T->cell));
            T->key = T->found;
            if (T->found && plan.keeps[T->pass]) {
                UNLOCK(T->bucket);
                RESERVE(false);
                LOCK_HOME(T->header);
                if (mutant == MOVE_WITHOUT_LOOKING_AGAIN)
                    T->found = T->key;
                else
                    FIND_PLACE(PLACE(T->number, T->cell));
                if (T->found && T->chunk_id != 0) {
                    MOVE(T->number);
                    T->found = 0;
                } else if (T->chunk_id != 0) {
                    T->chunk_at--; /* given back */
                }
            }
            T->reservation = (struct pointer){0, 0};
            T->key = T->found != 0;
            if (T->key)
                STORE(SLOT(T->bucket, T->found - 1), 0);
            UNLOCK(T->bucket);
            if (T->key && T->header == K)
                current_is(0);
            T->bucket = T->buckets = T->i = T->slot = T->header = T->a = T->b = T->found = T->key =
                0;
        }
        forget();
        if (mutant == WALK_BEFORE_MARK)
            STORE(STATE(T->number), LEAVING);
        STORE(ROOT(T->number), 0);
        STORE(STATE(T->number), FREE);
        FENCE;
        S->word[LISTED(T->number)] = 1;
    }
    END;
}

static uint8_t empty_slot(uint8_t bucket) {
    uint8_t i = load(SLOT(bucket, 0)) == 0 ? 0 : 1;
    if (load(SLOT(bucket, i)) != 0)
        wrong = "no slot is empty";
    return SLOT(bucket, i);
}

/* Splitting takes from bucket 0, merging from bucket 1; both are locked meanwhile. */
static void splitter(void) {
    BEGIN;
    for (T->pass = 0; T->pass < plan.resizes; T->pass++) {
        LOAD(T->number, BUCKETS);
        T->bucket = T->number - 1; /* where from */
        TAKE(0);
        if (mutant != SPLIT_WITHOUT_SECOND_LOCK)
            TAKE(1);
        for (T->i = 0; T->i < 2; T->i++) {
            LOAD(T->taken[T->i], SLOT(T->bucket, T->i));
            STORE(SLOT(T->bucket, T->i), 0);
        }
        STORE(BUCKETS, 3 - T->number);
        for (T->i = 0; T->i < 2; T->i++) {
            if (T->taken[T->i] == 0)
                continue;
            LOAD(T->a, ROOT(PLACE_ID(T->taken[T->i])));
            T->data = pointer_of(T->a);
            STEP;
            T->header = load(at(T->data, PLACE_CELL(T->taken[T->i]), LEAD));
            T->data = (struct pointer){0, 0};
            T->found = home(T->header, 3 - T->number);
            STEP;
            store(empty_slot(T->found), T->taken[T->i]);
            T->taken[T->i] = 0;
        }
        if (mutant != SPLIT_WITHOUT_SECOND_LOCK)
            UNLOCK(1);
        UNLOCK(0);
    }
    END;
}

/* All buckets are locked, copied, and stay so; then the other index is published. */
static void reshaper(void) {
    BEGIN;
    if (mutant != RESHAPE_WITHOUT_LOCKS) {
        TAKE(0);
        TAKE(1);
    }
    if (mutant != RESHAPE_LAYOUT_LAST)
        STORE(LAYOUT, 1);
    for (T->bucket = 0; T->bucket < 2; T->bucket++)
        for (T->i = 0; T->i < 2; T->i++) {
            LOAD(T->slot, SLOT(T->bucket, T->i));
            if (T->slot != 0)
                STORE(SLOT(T->bucket + 2, T->i),
                      PLACE_IN(1, PLACE_ID(T->slot), PLACE_CELL(T->slot)));
        }
    STORE(INDEX, 1);
    if (mutant == RESHAPE_LAYOUT_LAST)
        STORE(LAYOUT, 1);
    if (mutant == RESHAPE_UNLOCKS_THE_OLD) {
        UNLOCK(0);
        UNLOCK(1);
    }
    forget();
    END;
}

/* ---- beginning and end ---- */

static void record_at(uint8_t id, uint8_t cell, uint8_t key, uint8_t value) {
    struct pointer data = pointer_of(S->word[ROOT(id)]);
    S->word[at(data, cell, LEAD)] = key;
    S->word[at(data, cell, A)] = S->word[at(data, cell, B)] = value;
}

/* Segment 1 holds K and J. The other entries are free. */
static void prepare(uint8_t buckets) {
    S->word[BUCKETS] = buckets;
    for (uint8_t id = 2; id <= ENTRIES; id++)
        S->word[LISTED(id)] = 1;
    S->word[ROOT(1)] = object_new();
    S->word[STATE(1)] = OPEN;
    S->word[GENERATION(1)] = 1;
    record_at(1, 0, K, 1);
    record_at(1, 1, J, J_VALUE);
    S->word[SLOT(0, 0)] = PLACE_IN(0, 1, 1);
    S->word[SLOT(home(K, buckets), 1)] = PLACE_IN(0, 1, 0);
    S->current = 1;
}

static void prepare_one_bucket(void) {
    prepare(1);
}

static void prepare_two_buckets(void) {
    prepare(2);
}

static void judge(void) {
    uint8_t times[3] = {0, 0, 0}, index = S->word[INDEX];
    uint8_t layout = S->word[LAYOUT];
    for (uint8_t b = 0; b < 2; b++)
        for (uint8_t i = 0; i < 2; i++) {
            uint8_t slot = S->word[SLOT(2 * index + b, i)];
            if (slot == 0)
                continue;
            uint8_t id = PLACE_ID_IN(layout, slot), cell = PLACE_CELL_IN(layout, slot);
            CHECK(S->word[STATE(id)] == OPEN, "a slot leads into a segment that left");
            struct pointer data = pointer_of(S->word[ROOT(id)]);
            uint8_t key = S->word[at(data, cell, LEAD)];
            CHECK(key == K || key == J, "a slot leads to no record");
            CHECK(home(key, S->word[BUCKETS]) == b, "an item lies in another's bucket");
            uint8_t a = S->word[at(data, cell, A)];
            CHECK(a == S->word[at(data, cell, B)], "a torn value in the end");
            CHECK(a == (key == K ? S->current : J_VALUE), "an old or foreign value in the end");
            times[key]++;
        }
    CHECK(times[K] == (S->current != 0) && times[J] <= 1, "a key with two slots, or lost");
}

static const struct scenario scenarios[] = {
    {"a set, two segments leave, stores wait", {NULL, writer, evictor}, prepare_one_bucket, judge},
    {"a set, its segment leaves, another moves",
     {NULL, writer, evictor},
     prepare_one_bucket,
     judge},
    {"reader, merge, split, merge", {reader, splitter}, prepare_two_buckets, judge},
    {"reader, sets, another index", {reader, writer, reshaper}, prepare_two_buckets, judge},
    {"a set, a segment moves, another index",
     {NULL, writer, evictor, reshaper},
     prepare_one_bucket,
     judge},
    {"reader, a segment moves, another index",
     {reader, evictor, reshaper},
     prepare_two_buckets,
     judge},
    {"reader, sets, split, merge", {reader, writer, splitter}, prepare_one_bucket, judge},
    {"reader, two sets, a segment moves", {reader, writer, evictor}, prepare_one_bucket, judge},
    {"reader, sets in place, a segment moves",
     {reader, writer, evictor},
     prepare_one_bucket,
     judge},
    {"a set, a segment moves, merge, split",
     {NULL, writer, evictor, splitter},
     prepare_two_buckets,
     judge},
    {"reader, a set, a segment moves, split",
     {reader, writer, evictor, splitter},
     prepare_one_bucket,
     judge},
    {"reader, two sets, two segments leave", {reader, writer, evictor}, prepare_one_bucket, judge},
};
static const typeof(plan) plans[] = {
    {.sets = 1, .victims = 2, .victim = {1, 2}, .buffered = true},
    {.sets = 1, .victims = 2, .victim = {2, 1}, .keeps = {true, true}},
    {.resizes = 3},
    {.sets = 2, .in_place = true, .reshapes = true},
    {.sets = 1, .victims = 1, .victim = {1}, .keeps = {true}, .reshapes = true},
    {.victims = 1, .victim = {1}, .keeps = {true}, .reshapes = true},
    {.sets = 2, .in_place = true, .resizes = 2},
    {.sets = 2, .victims = 1, .victim = {1}, .keeps = {true}},
    {.sets = 2, .in_place = true, .victims = 1, .victim = {1}, .keeps = {true}},
    {.sets = 1, .victims = 1, .victim = {1}, .keeps = {true}, .resizes = 2},
    {.sets = 1, .victims = 1, .victim = {1}, .keeps = {true}, .resizes = 1},
    {.sets = 2, .victims = 2, .victim = {1, 2}, .keeps = {false, true}},
};
enum { SCENARIOS = sizeof scenarios / sizeof *scenarios };

static const char *const mutant_names[MUTANTS] = {
    [NO_CHECK_BEFORE_FOLLOWING] = "a reader follows a root before it checks the version",
    [NO_CHECK_AFTER_COPYING] = "a reader does not check the version after copying",
    [MISS_WITHOUT_ASKING_HOME] = "a miss does not ask whether the bucket is still the key's",
    [MISS_WITHOUT_VERSION_AGAIN] = "a miss asks for the bucket, but not for its version again",
    [LOCK_WITHOUT_ASKING_HOME] = "a writer does not ask whether the bucket is still the key's",
    [COMMIT_WITHOUT_ALIVE] = "a writer publishes into a segment that leaves",
    [COMMIT_WITHOUT_GENERATION] = "a writer takes an entry's next user for its own segment",
    [ALIVE_BEFORE_LOCK] = "a writer asks whether its segment lives before it has the lock",
    [MARK_NOT_FENCED] = "the mark waits in the store buffer while the walk begins",
    [WALK_BEFORE_MARK] = "the walk comes before the mark",
    [ROOT_CLEARED_FIRST] = "the root is cleared before the slots",
    [MOVE_WITHOUT_LOOKING_AGAIN] = "a record moves though its key was set meanwhile",
    [SLOT_BEFORE_RECORD] = "a slot is published before its record",
    [SPLIT_WITHOUT_SECOND_LOCK] = "a split does not lock the new bucket",
    [RESHAPE_WITHOUT_LOCKS] = "another index is copied without locks of the buckets",
    [RESHAPE_UNLOCKS_THE_OLD] = "the old buckets are unlocked when the other index is there",
    [RESHAPE_LAYOUT_LAST] = "what a slot means changes when the other index is there",
    [READER_NOT_SCANNED] = "the collector does not see what a reader holds",
    [ROOM_NOT_SCANNED] = "the collector does not see what a room holds",
};

/* The first scenario that shows the mutant, or NULL. */
static const char *search(uint64_t *states, const char **where) {
    *states = 0;
    for (int i = 0; i < SCENARIOS; i++) {
        plan = plans[i];
        buffered = plan.buffered;
        uint64_t some;
        const char *found = explore(&scenarios[i], &some);
        *states += some;
        *where = scenarios[i].name;
        if (mutant == SOUND)
            printf("%9lu states: %s: %s\n", some, scenarios[i].name, found ? found : "holds");
        if (found)
            return found;
    }
    return NULL;
}

int main(void) {
    setvbuf(stdout, NULL, _IOLBF, 0);
    bool good = true;
    for (mutant = SOUND; mutant < MUTANTS; mutant++) {
        uint64_t states;
        const char *where, *found = search(&states, &where);
        good &= (found == NULL) == (mutant == SOUND);
        if (mutant != SOUND)
            printf("%9lu states: %s: %s (%s)\n", states, mutant_names[mutant],
                   found ? found : "NOT FOUND", found ? where : "-");
    }
    return good ? EXIT_SUCCESS : EXIT_FAILURE;
}
