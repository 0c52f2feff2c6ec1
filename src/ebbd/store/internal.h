/* internal -- what the store's files share: item records, segments, the index. Read store.c first.
 */
#ifndef EBBD_STORE_INTERNAL_H
#define EBBD_STORE_INTERNAL_H

#include "store/store.h"
#include <ebb/assert.h>
#include <ebb/collector.h>
#include <ebb/hash.h>
#include <ebb/mem.h>
#include <pthread.h>
#include <stdatomic.h>

#define EBB_TYPE(...) EBB_TYPE_DECLARE(__VA_ARGS__)
#include "tbl/store_types.def"

/* ---- Items: a record is a header, the key, the value, padding to 8. ----
 *
 * The header is 16 bytes (narrow) or 24 (wide). A narrow one has no client flags, and keeps its cas
 * and its expiry relative to those of its segment, whose own do not change: so a process that runs
 * for years writes headers as short as on its first day. What does not fit is wide. */

struct record {
    _Atomic uint64_t header; /* key length 8 | flags 7, wide 1 | value length 24 | last access 24 */
    _Atomic uint64_t stamp;  /* narrow: cas 40 | expires 24, both relative; wide: cas 64 */
    _Atomic uint64_t times;  /* only when wide: client flags 32 | expires 32 */
};
enum {
    RECORD_NARROW = 16, /* bytes of a header */
    RECORD_WIDE = 24,
    RECORD_ALIGN = 8,
    LEAD_MARKS = 0x7F,
    LEAD_MARKS_SHIFT = 8,
    LEAD_WIDE = 1 << 15,
    LEAD_VALUE_SHIFT = 16,
    LEAD_ACCESS_SHIFT = 40,
    LEAD_24_BITS = 0xFFFFFF,
    RECORD_HUGE = LEAD_24_BITS, /* value length: see the segment */
    STAMP_CAS_SHIFT = 24,
    STAMP_CAS_BITS = 40,
    STAMP_EXPIRES_MAX = LEAD_24_BITS, /* seconds after the segment's birth: 194 days */
};
_Static_assert(sizeof(struct record) == RECORD_WIDE, "a wide header is the whole struct");

/* What a header keeps besides the header. */
struct attributes {
    uint32_t client_flags, expires; /* second; 0: never */
    uint64_t cas;
};

static inline uint64_t header_make(uint32_t key_length, uint8_t item_flags, bool wide,
                                   uint32_t value_length, uint32_t now) {
    return key_length | (uint64_t)item_flags << LEAD_MARKS_SHIFT | (wide ? LEAD_WIDE : 0) |
           (uint64_t)value_length << LEAD_VALUE_SHIFT |
           (uint64_t)(now & LEAD_24_BITS) << LEAD_ACCESS_SHIFT;
}

static inline uint32_t header_key_length(uint64_t header) {
    return header & 0xFF;
}

static inline uint8_t header_item_flags(uint64_t header) {
    return header >> LEAD_MARKS_SHIFT & LEAD_MARKS;
}

static inline uint32_t header_value_length(uint64_t header) {
    return header >> LEAD_VALUE_SHIFT & LEAD_24_BITS;
}

static inline bool header_wide(uint64_t header) {
    return header & LEAD_WIDE;
}

static inline uint32_t header_size(bool wide) {
    return wide ? RECORD_WIDE : RECORD_NARROW;
}

/* Bytes of an item's record. */
static inline uint32_t record_size(bool wide, uint32_t key_length, uint64_t value_length) {
    return (uint32_t)((header_size(wide) + key_length + value_length + RECORD_ALIGN - 1) &
                      ~(uint64_t)(RECORD_ALIGN - 1));
}

static inline char *record_key(const struct record *record, uint64_t header) {
    return (char *)(uintptr_t)record + header_size(header_wide(header));
}

/* A filler has key length 0; its value length counts units of RECORD_ALIGN, itself included. */
static inline uint64_t filler_make(uint32_t bytes) {
    return header_make(0, 0, false, bytes / RECORD_ALIGN, 0);
}

/* ---- Segments ---- */

/* Of a large object, for its header and the collector's spare byte: so it fills its blocks exactly.
 */
enum { OBJECT_SLACK = 32 };

enum segment_state { SEGMENT_FREE, SEGMENT_OPEN, SEGMENT_SEALED, SEGMENT_LEAVING };

/* New items are on probation; those that were asked for again move to main. */
enum pool { PROBATION, MAIN, POOLS };

enum { TTL_CLASSES = 20 }; /* 0: never expires; then by the logarithm of the time to live */

#define SEGMENT_NONE UINT32_MAX

enum { ENTRY_PAGE_SHIFT = 8 }; /* of 2^8 entries: some limits have few, and none move */

struct segment_entry {
    _Atomic uint32_t generation;     /* rises each time the entry is reused */
    _Atomic uint8_t state;           /* enum segment_state */
    _Atomic uint8_t pool, ttl_class; /* enum pool; a late look may see the next user's */
    _Atomic bool huge;               /* holds one item; capacity is its record's size */
    _Atomic bool flushed;            /* all in it is over */
    uint32_t capacity;               /* bytes for records */
    _Atomic uint32_t used;           /* bytes carved so far */
    _Atomic uint32_t live_bytes;     /* bytes of records that a slot points to */
    _Atomic uint32_t expires_last;   /* second after which nothing in it lives; UINT32_MAX: never */
    uint32_t next, previous;       /* in its pool's FIFO, or the free list; SEGMENT_NONE ends it */
    _Atomic uint32_t value_length; /* of a huge value; checked like a slot */
    _Atomic uint32_t born;         /* second; narrow headers count from here, */
    _Atomic uint64_t cas_base;     /* and from here */
};

/* What follows from a limit. */
struct shape {
    uint32_t segment_bytes; /* of an ordinary segment, header and all */
    uint32_t chunk_bytes;
    uint32_t huge_from; /* records of so many bytes and more get a segment of their own */
    uint32_t segments_most;
    uint32_t ttl_classes; /* fewer when segments are scarce */
};

/* Somebody's own piece of an open segment. No pointer: an idle worker must not hold the memory of a
 * segment that left. All 0: none. */
struct chunk {
    uint32_t segment, generation;
    uint32_t at, end; /* offsets, bytes */
};

struct store_worker {
    struct store *store;
    struct chunk chunk[POOLS][TTL_CLASSES];
    uint32_t inserts; /* since the index was last offered to grow */
    /* Counters of this thread; others only read them. */
    _Atomic int64_t items;
    _Atomic uint64_t items_total, written_bytes, lookups, main_hits, expired_lookups;
    char padding[64];
};

struct fifo {
    uint32_t first, last;   /* oldest, newest */
    _Atomic uint64_t bytes; /* capacity of its segments; others may look */
};

/* Keys that left probation unread, remembered by 11 bits for as long as about one cacheful of keys
 * leaves. */
typedef _Atomic uint16_t ghost_cell;
struct ghost {
    _Atomic(ghost_cell *) *pages;        /* directory (scanned): page_cells each */
    uint32_t page_cells, directory_size; /* as long as it is; another limit gets another one */
    _Atomic uint32_t pages_count;
    _Atomic uint16_t age;
    uint64_t inserts;     /* since it became so old; under evict_lock */
    uint64_t age_inserts; /* until it is a step older; under evict_lock */
    uint32_t until_grown; /* inserts; under evict_lock */
};
enum { GHOST_WAYS = 8, GHOST_AGE_BITS = 5 };

/* ---- The index ---- */

/* A slot is 48 bits, in two pieces, so that ten and a lock fit in a cache line:
 *   head 16: freq 2 | huge 1 | main 1 | tag and the address's high bits 12
 *   tail 32: the address's rest
 * The place is a segment's number and an offset in units of RECORD_ALIGN; how many bits each takes
 * follows from the largest limit there was (struct layout), the tag has what is left of 12. An
 * item's tag is never 0: a head of 0 is an empty slot, HEAD_LINK the last slot of a full bucket,
 * whose tail is the number of the overflow bucket that goes on. */
enum {
    BUCKET_SLOTS = 10,
    OVERFLOW_SLOTS = 5,
    INDEX_BUCKETS_MIN = 16,
    INDEX_SPARE_LOW = 64, /* overflow buckets kept ready */
    INDEX_CHAIN_MAX = 32, /* overflow buckets behind one bucket */
    HEAD_LINK = 1 << 15,  /* outside the tag */
    SLOT_TAIL_BITS = 32,
    SLOT_TAG_END = 44,  /* the bit above the tag */
    SLOT_PLACE_MAX = 40 /* bits: at least four are left for the tag */
};

struct bucket {
    _Atomic uint32_t version; /* odd: locked */
    _Atomic uint32_t tail[BUCKET_SLOTS];
    _Atomic uint16_t head[BUCKET_SLOTS];
};
#define OVERFLOW_NONE UINT32_MAX
struct overflow {
    _Atomic uint32_t tail[OVERFLOW_SLOTS]; /* of a free one the first is the next free one */
    _Atomic uint16_t head[OVERFLOW_SLOTS], spare;
};
_Static_assert(sizeof(struct bucket) == 64, "a bucket is a cache line");
_Static_assert(sizeof(struct overflow) == 32, "two overflow buckets are one");

#define SLOT_FREQ_SHIFT 46
#define SLOT_FREQ_ONE   ((uint64_t)1 << SLOT_FREQ_SHIFT)
#define SLOT_FREQ_ALL   ((uint64_t)3 << SLOT_FREQ_SHIFT)
#define SLOT_HUGE       ((uint64_t)1 << 45)
#define SLOT_MAIN       ((uint64_t)1 << SLOT_TAG_END)

/* Where a slot stands, in a bucket or an overflow bucket. */
struct slot_ref {
    _Atomic uint32_t *tail;
    _Atomic uint16_t *head; /* NULL: nowhere */
};

/* Without the bucket's lock: a slot only if the bucket's version says so afterwards. */
static inline uint64_t slot_load(struct slot_ref slot_at) {
    return (uint64_t)atomic_load_explicit(slot_at.head, memory_order_relaxed) << SLOT_TAIL_BITS |
           atomic_load_explicit(slot_at.tail, memory_order_relaxed);
}

static inline void slot_store(struct slot_ref slot_at, uint64_t slot) {
    atomic_store_explicit(slot_at.head, (uint16_t)(slot >> SLOT_TAIL_BITS), memory_order_relaxed);
    atomic_store_explicit(slot_at.tail, (uint32_t)slot, memory_order_relaxed);
}

/* The slots of a bucket, or of one overflow bucket of its chain. */
struct run {
    struct slot_ref first;
    int slots;
};

static inline struct run run_of_bucket(struct bucket *bucket) {
    return (struct run){{bucket->tail, bucket->head}, BUCKET_SLOTS};
}

static inline struct run run_of_overflow(struct overflow *overflow) {
    return (struct run){{overflow->tail, overflow->head}, OVERFLOW_SLOTS};
}

static inline struct slot_ref run_at(const struct run *run, int at) {
    return (struct slot_ref){run->first.tail + at, run->first.head + at};
}

static inline struct slot_ref run_last(const struct run *run) {
    return run_at(run, run->slots - 1);
}

static inline bool slot_ref_empty(struct slot_ref slot_at) {
    return atomic_load_explicit(slot_at.head, memory_order_relaxed) == 0;
}

static inline bool slot_ref_links(struct slot_ref slot_at) {
    return atomic_load_explicit(slot_at.head, memory_order_relaxed) == HEAD_LINK;
}

/* Of the overflow bucket that a link leads to. */
static inline uint32_t link_number(struct slot_ref link) {
    return atomic_load_explicit(link.tail, memory_order_relaxed);
}

struct index {
    _Atomic uint32_t buckets; /* in use; grows and shrinks one by one */
    uint32_t page_shift;      /* of 2^shift buckets, but for two; */
    uint64_t page_reciprocal;
    uint32_t directory_size;                    /* entries; */
    _Atomic(struct bucket *) *pages, *overflow; /* directories (scanned): a page each, or NULL;
                                                   these stay, another shape gets another index */
    atomic_flag overflow_lock;                  /* guards the free list, a few instructions long */
    uint32_t overflow_free;                     /* first of a list; OVERFLOW_NONE ends it */
    _Atomic uint32_t overflow_free_count, overflow_count;
    uint32_t overflow_pages, pages_count;
    uint32_t sweep_at; /* buckets that a sweep has seen; under resize_lock */
};

/* A page takes as many of the collector's blocks as a segment, so that each fits where the other
 * was (a part of that where segments are large): 2^shift buckets but for two, whose reservation the
 * object's header and the alignment need. The division by that number is a multiplication: with M =
 * ceil(2^(32 + shift) / d) the quotient n * M >> (32 + shift) is exact for n below 2^30. */
static inline uint32_t index_page_buckets(const struct index *index) {
    return (1u << index->page_shift) - 2;
}
static inline uint32_t index_page_of(const struct index *index, uint32_t number) {
    return (uint32_t)(number * index->page_reciprocal >> (32 + index->page_shift));
}
static inline size_t index_page_bytes(const struct index *index) {
    return ((size_t)index_page_buckets(index) + 1) * sizeof(struct bucket);
}

/* How a slot says its place. It changes while all buckets are locked. */
struct layout {
    _Atomic uint8_t offset_bits;
    _Atomic uint64_t offset_mask, address_mask, tag_mask;
};

/* Cleaning keeps what lives, also in a segment that looked wholly dead: a room in it may have been
 * published, or an expiry raised, since somebody looked. */
enum leaving { BY_POLICY, BY_CLEANING };

/* A segment on its way out: its records are walked, at one go or piece by piece. */
struct walk {
    struct store *store;
    struct segment_entry *entry; /* NULL: none is on its way */
    uint32_t segment, at, now;
    enum leaving leaving;
    uint32_t stay_freq; /* reads that keep an item of main */
    uint64_t mean_size; /* of the records that live */
    uint64_t begin_ns;
    bool stuck; /* what must stay finds no room */
};

/* Steps that were tried for room, and what lived at the least. */
struct trying {
    uint64_t least;
    uint32_t tries; /* since it became less */
};

/* Collections that found garbage still held. */
struct vain {
    uint64_t garbage; /* that the latest collection left, */
    uint64_t ns;      /* and when */
    bool found_little;
};

/* Counters as they stood when a window of time began. */
struct window {
    uint64_t stored, count;
};

struct store {
    struct store_config config;
    uint64_t seed;
    /* struct shape, changed under lock. */
    _Atomic uint32_t segment_capacity; /* bytes for records in an ordinary segment */
    _Atomic uint32_t chunk_bytes, huge_from, ttl_classes;
    uint32_t segments_most, segment_bytes_most; /* of all limits there were */
    uint32_t segments_max;                      /* of the largest limit there may be */
    _Atomic uint64_t limit_asked; /* what the limit is, or will be when its change is done */
    struct layout layout;
    _Atomic(char *) *data; /* segment_roots: entry n holds segment n; NULL: free */
    _Atomic(struct segment_entry *) *entries; /* pages of them */
    _Atomic(struct index *) index;
    struct store_worker **workers;
    struct store_worker *evictor; /* the chunks that survivors move to; under evict_lock */
    _Atomic(struct ghost *) ghost;

    pthread_mutex_t limit_lock;  /* one change of the limit at a time; taken first */
    pthread_mutex_t evict_lock;  /* one evictor at a time; taken before resize_lock and lock */
    pthread_mutex_t resize_lock; /* one resize of the index at a time; taken before lock */
    pthread_mutex_t lock;        /* short holds; guards: FIFOs, free list, tails, limit, shape */
    struct fifo fifo[POOLS];
    uint32_t tail[POOLS][TTL_CLASSES]; /* the open segments, or SEGMENT_NONE */
    uint32_t free_entries;             /* linked by next */
    _Atomic uint32_t entries_ready;    /* were used at some time */
    _Atomic bool has_evicted;
    _Atomic uint64_t batch_bytes;            /* garbage between two collections */
    struct window reads, main_reads, copies; /* these under evict_lock; see evict.c */
    bool nobody_reads, main_unread;
    uint32_t choices, clean_sooner;
    uint32_t quiet_since;   /* store_tick's: when it looked for what was let go of, */
    uint64_t quiet_written; /* and what had been written until then */
    struct walk walk;       /* the one that was begun and not ended */
    struct trying trying_ahead;
    struct vain vain;           /* under evict_lock */
    _Atomic bool room_let_go;   /* whose segment had left */
    _Atomic size_t index_bytes; /* pages, overflow pages, tables */

    _Atomic uint64_t cas;
    _Atomic uint32_t flush_at;   /* second; 0: none */
    _Atomic bool flushed;        /* some segment is, and not yet freed */
    _Atomic int64_t items_other; /* removed by eviction and flush, not by a worker (negative) */
    _Atomic uint64_t evictions, evicted_unfetched, expired_unfetched, reclaimed;
    _Atomic uint64_t huge, copied_bytes, ghost_hits, cleaned_segments;
};

/* ---- slots ---- */

/* Under the bucket's lock; without it the bucket's version says afterwards whether they were right.
 */

static inline uint64_t tag_mask(const struct store *store) {
    return atomic_load_explicit(&store->layout.tag_mask, memory_order_relaxed);
}

static inline uint64_t slot_address(const struct store *store, uint64_t slot) {
    return slot & atomic_load_explicit(&store->layout.address_mask, memory_order_relaxed);
}

static inline uint32_t slot_segment(const struct store *store, uint64_t slot) {
    return (uint32_t)(slot_address(store, slot) >>
                      atomic_load_explicit(&store->layout.offset_bits, memory_order_relaxed));
}

static inline uint32_t slot_offset(const struct store *store, uint64_t slot) {
    return (uint32_t)(slot &
                      atomic_load_explicit(&store->layout.offset_mask, memory_order_relaxed)) *
           RECORD_ALIGN;
}

static inline uint64_t address_make(const struct store *store, uint32_t segment, uint32_t offset) {
    return (uint64_t)segment << atomic_load_explicit(&store->layout.offset_bits,
                                                     memory_order_relaxed) |
           offset / RECORD_ALIGN;
}

/* 0 would be an empty slot. */
static inline uint64_t tag_not_0(uint64_t tag) {
    return tag ? tag : SLOT_MAIN >> 1;
}

/* The hash's high bits, where a slot has them. */
static inline uint64_t tag_of(const struct store *store, uint64_t hash) {
    return tag_not_0(hash >> (64 - SLOT_TAG_END) & tag_mask(store));
}

static inline struct segment_entry *segment_at(const struct store *store, uint32_t segment) {
    struct segment_entry *page =
        atomic_load_explicit(&store->entries[segment >> ENTRY_PAGE_SHIFT], memory_order_relaxed);
    return &page[segment & ((1u << ENTRY_PAGE_SHIFT) - 1)];
}

static inline char *segment_data(const struct store *store, uint32_t segment) {
    return atomic_load_explicit(&store->data[segment], memory_order_acquire);
}

/* Where a slot leads to. */
struct target {
    char *data; /* the segment's memory */
    struct record *record;
    struct segment_entry *entry;
};

/* The caller holds the bucket's lock. */
static inline struct target slot_target(const struct store *store, uint64_t slot) {
    uint32_t segment = slot_segment(store, slot);
    char *data = segment_data(store, segment);
    return (struct target){data, (struct record *)(data + slot_offset(store, slot)),
                           segment_at(store, segment)};
}
static inline struct record *slot_record(const struct store *store, uint64_t slot) {
    return (struct record *)(segment_data(store, slot_segment(store, slot)) +
                             slot_offset(store, slot));
}

/* ---- record.c ---- */

/* Under store->lock, before the first record. */
void attributes_start(const struct store *store, struct segment_entry *entry, uint32_t now);
/* Reads and writes what a header of this segment's keeps. A narrow one must fit. */
struct attributes attributes_read(const struct segment_entry *entry, const struct record *record,
                                  uint64_t header);
void attributes_write(const struct segment_entry *entry, struct record *record, bool wide,
                      const struct attributes *attributes);
bool attributes_fit(const struct segment_entry *entry, const struct attributes *attributes);
/* Whether they will most likely fit a segment that is open now. */
bool attributes_likely_narrow(const struct store *store, const struct attributes *attributes,
                              uint32_t now);
/* Under the lock of the slot's bucket: the record behind the slot is copied to `room`, whose header
 * may be of the other width, and the slot headers there from then on, with this frequency (in
 * SLOT_FREQ_ALL). False: what the header keeps does not fit the reservation's. */
bool record_move(struct store *store, struct slot_ref slot_at,
                 const struct store_reservation *reservation, uint64_t freq);

/* ---- segment.c ---- */

void segments_start(struct store *store);
/* What a limit asks for. */
struct shape shape_for(uint64_t limit_bytes);
/* Segments and records that come now have this shape. Takes the lock. */
void segments_shape(struct store *store, const struct shape *shape);
static inline bool segment_alive(const struct segment_entry *entry, uint32_t generation) {
    uint8_t state = atomic_load_explicit(&entry->state, memory_order_seq_cst);
    return (state == SEGMENT_OPEN || state == SEGMENT_SEALED) &&
           !atomic_load_explicit(&entry->flushed, memory_order_relaxed) &&
           atomic_load_explicit(&entry->generation, memory_order_relaxed) == generation;
}
/* What every slot into the segment says of it. */
static inline uint64_t segment_slot_bits(const struct segment_entry *entry) {
    return (entry->huge ? SLOT_HUGE : 0) | (entry->pool == MAIN ? SLOT_MAIN : 0);
}
/* Of the record that begins with this header: bytes of its value, and of all of it. */
static inline uint32_t segment_value_length(const struct segment_entry *entry, uint64_t header) {
    return entry->huge ? entry->value_length : header_value_length(header);
}
uint32_t segment_record_size(const struct segment_entry *entry, uint64_t header);
/* Room for a record of size bytes that goes to this pool; huge: in a segment of its own. */
enum store_verdict segment_reserve(struct store_worker *worker, enum pool pool, uint32_t expires,
                                   uint32_t size, bool huge, uint64_t value_length, uint32_t now,
                                   struct store_reservation *reservation);
void segment_unreserve(struct store_worker *worker, struct store_reservation *reservation);
/* An ordinary segment of more than so many bytes, and than those that are made now; or
 * SEGMENT_NONE. */
uint32_t segment_find_larger(struct store *store, uint64_t most);
/* A survivor's room in main, without evicting for it. Under evict_lock. False: no memory. */
bool segment_reserve_survivor(struct store *store, enum pool pool, uint32_t expires, uint32_t size,
                              uint64_t value_length, uint32_t now,
                              struct store_reservation *reservation);
static inline bool segment_is_huge(const struct store *store, uint32_t size) {
    return size >= atomic_load_explicit(&store->huge_from, memory_order_relaxed);
}
/* Under store->lock: is an entry free for one more? */
static inline bool segment_entry_free(const struct store *store) {
    return store->free_entries != SEGMENT_NONE || store->entries_ready < store->segments_most;
}
uint32_t segment_ttl_class(const struct store *store, uint32_t expires, uint32_t now);
void segment_live_add(struct segment_entry *entry, uint32_t bytes);
void segment_live_remove(struct segment_entry *entry, uint32_t bytes);
/* No slot points to the record behind this one any more. */
void segment_slot_gone(struct store *store, uint64_t slot);
/* Something in the segment lives to this second (0: for ever). */
void segment_expires_raise(struct segment_entry *entry, uint32_t expires);
static inline bool segment_is_open(const struct segment_entry *entry) {
    return atomic_load(&entry->state) == SEGMENT_OPEN;
}
uint64_t segment_bytes_live_now(struct store *store); /* takes the lock */
/* Under store->lock from here. segment_drop frees the entry; memory goes when the last reader
 * forgets it. */
void segment_drop(struct store *store, uint32_t segment);
void segment_seal(struct store *store, uint32_t segment);
/* A huge segment that survives: to main's young end. */
void segment_requeue(struct store *store, uint32_t segment);
uint64_t segment_bytes_live(const struct store *store);
/* Memory that segments and all garbage of the store hold, and what they may hold. */
uint64_t segment_bytes_held(const struct store *store);
uint64_t segment_budget(const struct store *store);
static inline uint32_t segment_bytes(const struct store *store) {
    return atomic_load_explicit(&store->segment_capacity, memory_order_relaxed);
}

/* ---- evict.c ---- */

/* Under store->lock: may a segment of `bytes` be allocated right now? */
bool evict_has_room(const struct store *store, uint64_t bytes);
/* Does probation hold its share? Any thread; a guess. */
bool evict_probation_full(const struct store *store);
/* Waits for, and makes, room for a segment of `bytes`. False: nothing left to evict. Without locks
 * held. */
bool evict_for(struct store *store, uint64_t bytes, uint32_t now);
/* The system refused a segment of `bytes` that the budget allows: lets as many go. False: nothing
 * left to evict. Without locks held. */
bool evict_instead(struct store *store, uint64_t bytes, uint32_t now);
/* Evicts ahead of need, if nobody else does: a piece of work for so many bytes that were carved,
 * fresh: out of a new segment. Without locks held. */
void evict_ahead(struct store *store, uint32_t carved, bool fresh, uint32_t now);
/* Drops empty and wholly expired segments, and ghosts of a cache that was larger, piece by piece.
 * False: there are none. Without locks held. */
bool evict_expired(struct store *store, uint32_t now);
/* Evicts until segments fit the budget, and leaves none that is a large part of it. Without locks
 * held. */
void evict_to_budget(struct store *store, uint32_t now);

/* ---- flush.c ---- */

/* All there is is over from now on. due not 0: only if that is still the second of the flush to
 * come, which is then done. Without locks held. */
void flush_begin(struct store *store, uint32_t due);
/* Frees what was flushed, piece by piece. False: all is free. Without locks held. */
bool flush_go_on(struct store *store);

/* ---- ghost.c ---- */

void ghost_start(struct store *store);
/* Begins anew where the limit asks for pages much larger or smaller, drops what few items do not
 * need. Without locks held. */
void ghost_fit(struct store *store);
uint64_t ghost_bytes(const struct ghost *ghost);
/* Under evict_lock. Drops a page that is not needed. False: there is none. */
bool ghost_shrink(struct store *store);
/* Under evict_lock. */
void ghost_add(struct store *store, uint64_t hash);
/* Was it there? Then it is forgotten. Any thread. */
bool ghost_take(struct store *store, uint64_t hash);

/* ---- reshape.c ---- */

void reshape_start(struct store *store, const struct shape *shape);
/* Where the limit asks for another shape an index of that shape takes the place of this one, while
 * everybody waits (about 20 ns a bucket). False: no memory for one that must be. Without locks
 * held. */
bool reshape_to(struct store *store, const struct shape *shape);

/* ---- index.c ---- */

/* Shrinks to the load that an index has while it grows. Without locks held. */
void index_fit(struct store *store);
uint64_t index_bytes(const struct index *index); /* of its pages and directories */
static inline struct index *index_now(const struct store *store) {
    return atomic_load_explicit(&store->index, memory_order_acquire);
}
/* Linear hashing: which of `count` places a hash belongs to. */
uint32_t index_number_of(uint64_t hash, uint32_t count);
/* Locks the bucket of hash; returns it. Short holds only, no allocation inside. */
struct bucket *index_lock(struct store *store, uint64_t hash);
void index_unlock(struct bucket *bucket);
/* Under the lock: where the key's slot is, if anywhere. */
struct slot_ref index_find(struct store *store, struct bucket *bucket, struct ebb_span key,
                           uint64_t hash);
/* Under the lock: where the slot of that hash is that points to exactly this address
 * (address_make), if anywhere. */
struct slot_ref index_find_address(struct store *store, struct bucket *bucket, uint64_t hash,
                                   uint64_t points_to);
/* Under the lock: puts a new slot in. When there is no room another item of the bucket leaves. */
void index_put(struct store *store, struct bucket *bucket, uint64_t slot);
/* Under the lock: empties a slot that index_find returned. */
void index_remove(struct store *store, struct bucket *bucket, struct slot_ref slot_at);
/* What a look without the lock found: consistent as long as `bucket` has this version. */
struct found {
    struct bucket *bucket; /* the key's own */
    struct slot_ref slot_at;
    uint64_t slot;
    uint32_t version;
    struct target target;
};
bool index_lookup(const struct store *store, struct ebb_span key, uint64_t hash,
                  struct found *found);
/* Grows or shrinks by up to `steps` buckets towards what `items` ask for. False: it is there. */
bool index_resize(struct store *store, uint64_t items, int steps);
/* Begins a sweep anew, and goes on with it for some buckets: clears each slot whose segment was
 * flushed before it began. True: no such slot is left. */
void index_sweep_start(struct store *store);
bool index_sweep(struct store *store);
struct bucket *index_bucket_at(const struct index *index, uint32_t number);
struct overflow *index_overflow_at(const struct index *index, uint32_t number);
/* The run that the last slot of this one leads to takes its place. False: there is none. Under the
 * bucket's lock. */
static inline bool run_next(const struct index *index, struct run *run) {
    struct slot_ref last = run_last(run);
    if (!slot_ref_links(last))
        return false;
    *run = run_of_overflow(index_overflow_at(index, link_number(last)));
    return true;
}

/* For reshape.c, under resize_lock. False: there is no memory. */
bool index_page_add(struct store *store, struct index *index, uint32_t page);
bool index_overflow_add(struct store *store, struct index *index);
uint32_t index_overflow_spare(const struct index *index);
void index_bucket_lock(struct bucket *bucket);
/* Under the bucket's lock. Returns the slot that had to go for it, or 0. */
uint64_t index_insert(struct index *index, struct bucket *bucket, uint64_t slot);
/* Enough spare overflow buckets for what a few inserts may need. Outside locks. */
void index_provision(struct store *store);
/* Fetches the bucket of a hash into the processor's cache. */
void index_prefetch(const struct store *store, uint64_t hash);

/* -m; it changes at run time. */
static inline uint64_t store_limit(const struct store *store) {
    return __atomic_load_n(&store->config.limit_bytes, __ATOMIC_RELAXED);
}
static inline uint64_t store_hash(const struct store *store, struct ebb_span key) {
    return ebb_hash(key.at, key.length, store->seed);
}
static inline struct ebb_span record_key_span(const struct record *record) {
    uint64_t header = atomic_load_explicit(&record->header, memory_order_relaxed);
    return (struct ebb_span){record_key(record, header), header_key_length(header)};
}
static inline uint64_t record_hash(const struct store *store, const struct record *record) {
    return store_hash(store, record_key_span(record));
}
uint64_t store_items(const struct store *store);
uint64_t store_written_bytes(const struct store *store); /* since start */
/* From its second on an item is gone; 0: never. */
static inline bool is_expired(uint32_t expires, uint32_t now) {
    return expires != 0 && expires <= now;
}
/* The view of the record that a slot leads to, as of `now`. */
void store_view(const struct target *target, uint64_t slot, uint32_t now, struct store_item *item);

#endif
