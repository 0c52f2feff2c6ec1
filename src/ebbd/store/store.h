/* store -- keys and values in pointer-free segments, found through an index; see store.c for how
 * and why.
 *
 * No I/O; the clock is passed in: `now` is seconds on the daemon's own clock (never 0, never back).
 * The functions with a struct store_worker are for that worker's thread; any number of workers run
 * at once.
 *
 * Three primitives carry every command:
 *   find    without a lock: a view of an item, valid once store_still says so; an item that has
 *           expired is taken away, under its bucket's lock
 *   update    under the bucket's lock: expiry, flags, cas, a small value in place, removal
 *   commit  a new version out of a reserved room, if the caller's decide() agrees under the
 * bucket's lock
 */
#ifndef EBBD_STORE_H
#define EBBD_STORE_H

#include <ebb/span.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define STORE_KEY_MAX 250 /* bytes */

/* Values up to so many bytes may be changed in place: a reader copies them, then asks store_still.
 * Longer ones never change where they lie: a reader may keep the pointer as long as `pin` is in
 * memory that the collector scans. */
#define STORE_COPY_MAX 16384

struct store;
struct store_worker;
struct store_item;
struct record;
struct segment_entry;

struct store_config {
    size_t limit_bytes;    /* -m: segments, index and the collector's slack together; less than a
                              mebibyte counts as one */
    size_t limit_most;     /* what the limit may be raised to; less than it: it may not */
    size_t value_size_max; /* -I: bytes of a whole item, as memcached counts it (header, key, value,
                              CRLF) */
    int workers;
    /* Called for each item that is evicted (not for expired ones), without a bucket's lock held: no
     * store call. Any thread. NULL: nothing. */
    void (*evicted)(struct ebb_span key, const struct store_item *item, uint32_t now);
    bool evict; /* false (-M): a full store refuses instead */
};

struct store *store_new(const struct store_config *config);
struct store_worker *store_worker_at(struct store *store, int index);
/* Lets go of everything. When: after the workers have stopped. */
void store_close(struct store *store);

/* Marks of an item. */
enum {
    STORE_FETCHED = 1,    /* was read since it was stored */
    STORE_STALE = 2,      /* meta: invalidated, waits for a recache */
    STORE_WIN_SENT = 4,   /* meta: somebody was told to recache */
    STORE_KEY_BASE64 = 8, /* meta: the key came as base64, so it is shown so */
};

struct store_item {
    const char *value;
    size_t value_length; /* bytes, without CRLF */
    uint32_t client_flags;
    uint32_t expires;     /* second from which it is gone; 0: never */
    uint32_t last_access; /* second */
    uint8_t item_flags;
    uint64_t cas;
    const void *pin; /* start of the memory that holds value */
};

struct store_read {
    struct store_item item;
    /* private: where it was found */
    const void *bucket, *head;
    struct record *record;
    uint64_t slot;
    uint32_t version, now;
    struct store_worker *worker;
};

/* Looks the key up. False: a miss (absent, expired or flushed). True: read->item is a view; use it,
 * then ask store_still; when that is false the view was overtaken: look up again. The view's
 * lengths are always safe to read. */
bool store_find(struct store_worker *worker, struct ebb_span key, uint32_t now,
                struct store_read *read);
/* True: what was copied out of the view is one whole version. */
bool store_still(const struct store_read *read);
/* Marks the item as used (frequency, fetched, last access): for hits that count as such. After
 * store_still. */
void store_touched(const struct store_read *read);

struct store_update {
    struct store_item
        item;    /* as it is; item.value may be written when item.value_length <= STORE_COPY_MAX */
    char *value; /* the same bytes, writable; NULL when they are too many */
    /* What it shall be; preset to what it is. */
    uint32_t expires;
    uint8_t item_flags;
    uint64_t cas; /* set to 0 for a fresh one */
    bool remove;
    bool accessed;      /* counts as a use, as store_touched */
    bool changed;       /* the same, but does not count as fetched */
    uint64_t *cas_told; /* not NULL: gets the cas that the item has afterwards */
};
/* What an update may set; 0 where it leaves it, or takes a fresh cas. */
struct store_may {
    uint32_t expires;
    uint64_t cas;
};
/* Calls update once under the bucket's lock (so: short, no allocation, no store call); false: a
 * miss.
 */
bool store_update_may(struct store_worker *worker, struct ebb_span key, uint32_t now,
                      struct store_may may,
                      void (*update)(struct store_update *update, void *context), void *context);
/* The same for what leaves the cas, or takes a fresh one. */
static inline bool store_update(struct store_worker *worker, struct ebb_span key, uint32_t now,
                                uint32_t expires,
                                void (*update)(struct store_update *update, void *context),
                                void *context) {
    return store_update_may(worker, key, now, (struct store_may){.expires = expires}, update,
                            context);
}

enum store_verdict {
    STORE_STORED,
    STORE_NOT_STORED,
    STORE_EXISTS, /* cas differs */
    STORE_NOT_FOUND,
    STORE_TOO_LARGE,
    STORE_NO_MEMORY, /* nothing evictable remains */
    STORE_AGAIN,     /* a decide() of the caller's own that wants to start over */
};

/* Room for one item under construction; lives in scanned memory (it holds its segment). Zeroed:
 * none. */
struct store_reservation {
    char *value; /* value_length bytes for the caller to fill */
    size_t value_length;
    void *record; /* private from here; NULL: none */
    void *segment;
    struct segment_entry *entry;
    uint32_t segment_id, segment_generation;
    uint32_t size, offset;
    uint8_t key_length;
    bool wide;
    uint64_t hash;
};

/* What a new version gets. */
struct store_new {
    uint32_t client_flags, expires;
    uint8_t item_flags;
    uint64_t cas; /* 0: a fresh one; filled in afterwards */
};

/* STORE_STORED: room is there. STORE_TOO_LARGE, STORE_NO_MEMORY. May evict, may collect. The room
 * stays valid however long filling takes. `likely` is what the item will get as far as is known: it
 * says where the reservation is best and how long its header, no more. */
enum store_verdict store_reserve(struct store_worker *worker, struct ebb_span key,
                                 size_t value_length, const struct store_new *likely, uint32_t now,
                                 struct store_reservation *reservation);

/* decide sees the present item (NULL: none) and may change *new; STORE_STORED publishes, anything
 * else drops the reservation. Called under the bucket's lock: short, no allocation, no store call;
 * once, or again from the start when its answer needs another room (then *new is as it was, and
 * room->value is the same bytes elsewhere). NULL: always store. The room is used up in every case.
 * new->cas is what the item got. */
typedef enum store_verdict store_decide(const struct store_item *old, struct store_new *new,
                                        void *context);
enum store_verdict store_commit(struct store_worker *worker, struct store_reservation *reservation,
                                uint32_t now, struct store_new *new, store_decide *decide,
                                void *context);
void store_abandon(struct store_worker *worker, struct store_reservation *reservation);

/* Everything stored so far is gone from second `at` on (at <= now: at once). */
void store_flush(struct store *store, uint32_t at, uint32_t now);

/* Drops what has expired or was flushed, returns its memory, fits the index: a piece of that, of
 * about a millisecond. Each second, and again soon while it says true: there is more. From one
 * thread. */
bool store_tick(struct store *store, uint32_t now);

/* -m, as it is now. */
size_t store_limit_now(const struct store *store);
/* Changes the limit at run time; gives memory back at once. All are as after a start with this
 * limit, but for segments of another size, which leave one by one. False: too small or too large,
 * or no memory for a larger index. Any thread. */
bool store_limit_set(struct store *store, size_t limit_bytes, uint32_t now);

/* Lets items leave that take so many bytes at the least, and collects: when the system gives no
 * more memory, whatever the limit. False: none left. Any thread. */
bool store_give(struct store *store, size_t bytes, uint32_t now);

/* A walk over all items, in steps. Zeroed: at the start. */
struct store_scan {
    uint32_t segment, generation, offset;
    bool inside;
};
/* key is valid during the call; item->value is not to be read. False: stop this step behind this
 * item. */
typedef bool store_see(struct ebb_span key, const struct store_item *item, void *context);
/* Looks at up to `records` records and calls see, without locks held, for those that live. False:
 * the walk is at its end. An item that moves meanwhile may be seen twice or not at all. Any thread
 * that the collector knows. */
bool store_scan(struct store *store, struct store_scan *scan, uint32_t now, unsigned records,
                store_see *see, void *context);

struct store_stats {
    uint64_t items, items_total; /* now; ever stored */
    uint64_t bytes;              /* of live items: header, key, value */
    uint64_t limit_bytes;
    uint64_t evictions, evicted_unfetched, expired_unfetched,
        reclaimed;                    /* reclaimed: expired items' room reused */
    uint64_t expired_lookups;         /* expired items that somebody came for */
    uint32_t oldest;                  /* second when the oldest live segment was begun; 0: none */
    uint64_t segments, segment_bytes; /* live ones: count, memory */
    uint64_t dropped_bytes;           /* memory of dropped segments not yet collected */
    uint64_t index_bytes, buckets, overflow_buckets;
    uint64_t huge;            /* values with a segment of their own */
    uint64_t probation_bytes; /* memory of segments in probation */
    uint64_t written_bytes,
        copied_bytes; /* of records: stored by commands; copied by eviction and cleaning */
    uint64_t cleaned_segments, ghost_hits;
};
void store_stats_read(struct store *store, struct store_stats *stats);

/* Asserts every invariant of store.c; for tests, while no worker runs. */
void store_check(struct store *store);

#endif
