/* heap -- looking into the heap: what is in it by type, who holds what, where it was made.
 *
 * The census walks the heap of this process under the collector's lock (some ms for each half
 * million objects). The snapshot and the growth report need more time: run them in a forked copy.
 */
#ifndef EBB_HEAP_H
#define EBB_HEAP_H

#include <ebb/collector.h>
#include <ebb/mem.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

#define EBB_CENSUS_TYPES 512

struct ebb_census_row {
    const struct ebb_type *type;
    uint64_t objects, bytes; /* as asked for */
    uint64_t cells;          /* bytes that the collector uses for them, headers included */
};

/* Live as of the latest collection. Bytes. */
struct ebb_census {
    struct ebb_heap_record now;
    size_t rows;
    struct ebb_census_row row[EBB_CENSUS_TYPES]; /* most bytes first */
    uint64_t other_objects, other_cells;         /* the collector's own, and free cells */
    uint64_t slack; /* heap - free - all cells: rests of blocks, and what died since */
    /* The resident size by what it is, from /proc/self/smaps. */
    uint64_t rss, rss_heap, rss_program, rss_libc, rss_stack, rss_other;
};

/* When: not in a signal handler. */
void ebb_census_take(struct ebb_census *census);
void ebb_census_write_text(struct ebb_writer *writer, const struct ebb_census *census);
void ebb_census_write_json(struct ebb_writer *writer, const struct ebb_census *census);

/* Heap profile by call site in the text format of gperftools, for google-pprof and go tool pprof.
 * Objects with a call site are in it: OWNED, FOREIGN, and SHARED from 2 KiB on. */
void ebb_heap_profile_write(struct ebb_writer *writer);
/* The functions at addresses such as "0x1a2b+0x3c4d", as a tool asks that has no copy of the
 * program: a line each, without those that nobody knows. False: not readable. */
bool ebb_heap_symbols_write(struct ebb_writer *writer, const char *addresses) EBB_MUST_CHECK;
/* What they ask for besides: the words of our command line, with a NUL behind each. */
void ebb_heap_cmdline_write(struct ebb_writer *writer);

/* A thing that is no memory and shall stand in the snapshot: "socket", "127.0.0.1:80". */
struct ebb_snapshot_resources {
    /* Calls see for each. */
    void (*each)(void (*see)(const char *kind, const char *name, void *context), void *context);
};

/* The object graph in the format of Chrome DevTools' heap snapshots. When: in a forked copy of the
 * process, by its only thread; it collects, and takes memory of its own. resources: or NULL. Fails:
 * EBB_ERR_LIMIT: the system gives no memory; nothing has been written then. */
enum ebb_err ebb_snapshot_write(struct ebb_writer *writer,
                                const struct ebb_snapshot_resources *resources) EBB_MUST_CHECK;
/* About what that, and ebb_growth_write, take at most, in bytes, besides what the copy shares. */
uint64_t ebb_snapshot_bytes(void);

/* Remembers how many objects of each type live and were not released, after a full collection. */
void ebb_growth_begin(void);
bool ebb_growth_begun(void);
/* Each type with more live objects than at begin, and a path that holds one of them; as JSON or
 * text. When, and fails: as ebb_snapshot_write. */
enum ebb_err ebb_growth_write(struct ebb_writer *writer, bool json) EBB_MUST_CHECK;

__END_DECLS

#endif
