/* collector -- start it, ask it to collect, be told what it did.
 *
 * Collections are started by us: after a known amount of dropped bytes, at idle, on demand; the
 * collector's own heuristic is the fallback. Settings come from a profile (gc-config/). */
#ifndef EBB_COLLECTOR_H
#define EBB_COLLECTOR_H

#include <ebb/err.h>
#include <ebb/writer.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

/* One member per row of ebb/tbl/profile.def. */
struct ebb_profile {
    char name[256]; /* NAME or FILE as chosen */
    char path[512]; /* the file it was read from; empty: compiled in */
#define EBB_PROFILE_BOOL(key, dflt, help)              bool key;
#define EBB_PROFILE_NUMBER(key, dflt, low, high, help) uint64_t key;
#include <ebb/tbl/profile.def>
};

/* Reads NAME (NAME.conf in $EBB_GC_CONFIG, else in ../share/ebb/gc-config beside the running
 * program, else as compiled in: deploy, leak-detect, heap-bench) or a
 * FILE (has a slash or ends in .conf). Fails: EBB_ERR_USAGE with file and line: no such profile,
 * unknown key, value out of bounds. */
enum ebb_err ebb_profile_read(struct ebb_profile *profile, const char *name_or_file) EBB_MUST_CHECK;

/* Starts the collector; registers this thread. When: first in main, once (again does nothing). */
void ebb_collector_start(const struct ebb_profile *profile);
const struct ebb_profile *ebb_collector_profile(void);
/* Logs what was found that concerns the collector and could not be told at once; again, nothing.
 * When: once the log is where it shall be; a loop that runs finalizers does it by itself. */
void ebb_collector_tell(void);

/* How much memory the program means to use; sets the threshold of dropped bytes (profile's percent
 * of it). */
void ebb_budget_set(size_t bytes);

/* Why a collection ran. */
enum ebb_cause {
#define EBB_CAUSE(id, text) EBB_CAUSE_##id,
#include <ebb/tbl/causes.def>
    EBB_CAUSES
};
const char *ebb_cause_name(enum ebb_cause cause);

/* How many collections there were. Cheap. */
uint64_t ebb_collections(void);

/* A full collection now, in this thread; waits for one that runs. */
void ebb_collect(enum ebb_cause cause);
/* Collects until everything unreachable is known to be so (garbage of earlier cycles swept first,
 * twice), runs finalizers on this thread, and gives free blocks back to the operating system. For
 * shutdown, tests, pressure. */
void ebb_collect_fully(enum ebb_cause cause);

/* So many bytes were taken and are about to be written to. Where the process has a bound, room is
 * made for them first: what can shrink shrinks, in this thread. False: there is none even so, and
 * who can do without them lets go of them. Cheap unless it gets tight. When: no lock is held that
 * shrinking needs. */
bool ebb_charge(size_t bytes);
/* The same for what will be taken bit by bit, until it is given back. False: nothing is reserved.
 */
bool ebb_reserve(size_t bytes) EBB_MUST_CHECK;
void ebb_unreserve(size_t bytes);
/* Who makes room: told of the bytes taken since it last was told (only when these are `step` or
 * more) and of those that are reserved. NULL: nobody, and all fits. */
void ebb_charge_room(bool (*make_room)(uint64_t bytes), size_t step);

/* The system refused memory since this was asked last, or the reserve that is kept for small
 * objects is not whole, though it took what there was: let go of something, collect, and ask again.
 * Cheap when all is well. */
bool ebb_memory_short(void);

/* Large objects that were reclaimed stay resident for who takes memory next; what is more than so
 * many bytes of them goes back to the system, now. Cheap when it is not. */
void ebb_free_blocks_bound(size_t bytes);

/* About so many bytes became unreachable. Collects in this thread when the threshold is passed and
 * no other collection is running; returns true when it did. */
bool ebb_dropped(size_t bytes);
/* So many times the threshold from now on, because collections take too much time; 1 at first. */
void ebb_dropped_slack_set(unsigned times);
unsigned ebb_dropped_slack(void);
/* Dropped since the latest collection. */
size_t ebb_dropped_now(void);

/* Share of recent processor time that went into collections, per mille; smoothed over some eight of
 * them. */
uint32_t ebb_collect_per_mille(void);

/* Finalizers that are ready run here, on the caller's thread; returns how many. The loop calls it
 * between iterations. */
int ebb_finalizers_run(void);
/* wake is called (any thread, must not allocate) when finalizers become ready. */
void ebb_finalizers_notify(void (*wake)(void));

/* One collection, or one interval tick (cause EBB_CAUSE_interval, no pause). Bytes and nanoseconds.
 */
struct ebb_heap_record {
    uint64_t unix_ns; /* of a collection: when the world went on */
    uint64_t number;  /* of collections so far */
    enum ebb_cause cause;
    uint64_t pause_ns, sweep_ns; /* the world stood still; reclaiming, while it ran again */
    uint64_t stop_ns, mark_ns;   /* of the pause: until the last thread had stopped; marking */
    uint64_t pause_cpu_ns;       /* of the pause: what the collecting thread worked */
    uint64_t heap, live, free, unmapped, rss, unmanaged; /* live: heap - free - dropped since */
    uint64_t allocated_since, dropped_since, finalized, leaks;
};

/* The state now, as a record of cause interval. rss and unmanaged are read from /proc. Waits for a
 * collection that runs: what ebb_heap_record_take has not given after this is of later. */
void ebb_heap_now(struct ebb_heap_record *record);
/* Takes the oldest untaken record out of the ring of collections (1,024 kept; older ones are
 * overwritten and counted in *lost). False when there is none. One consumer. */
bool ebb_heap_record_take(struct ebb_heap_record *record, uint64_t *lost);
/* CSV: a header line, then a line a record. */
void ebb_heap_record_write_header(struct ebb_writer *writer);
void ebb_heap_record_write(struct ebb_writer *writer, const struct ebb_heap_record *record);
/* The same as one JSON object. */
void ebb_heap_record_write_json(struct ebb_writer *writer, const struct ebb_heap_record *record);

__END_DECLS

#endif
