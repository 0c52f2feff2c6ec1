/* census -- what the heap holds by type, and how that adds up to what the system says we use.
 *
 * The collector's mark bits stay as the latest collection left them, so walking the marked objects
 * gives exactly what was live then. The sums: all cells + slack + free = heap; heap resident + the
 * rest by kind = RSS. Slack is what the collector has in blocks of small objects without a live
 * object in it: free cells, rests, and what was allocated since.
 *
 * 1. The walk holds the allocation lock: it allocates nothing, and counts into the caller's room.
 * 2. A mapping belongs to the heap when one of some points in it does; the collector's tables lie
 * between its heap sections and are counted with it. */
#include "gc/types.h"
#include "gc/walk.h"
#include <ebb/assert.h>
#include <ebb/clock.h>
#include <ebb/heap.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>
#include <gc/gc_mark.h>

struct walk {
    void (*see)(void *base, size_t cell, const struct object_header *header, void *context);
    void *context;
};

static void GC_CALLBACK on_object(void *base, size_t cell, void *arg) {
    const struct walk *walk = arg;
    walk->see(base, cell, ebbi_object_at_base(base), walk->context);
}

static void *GC_CALLBACK walk_locked(void *arg) {
    GC_enumerate_reachable_objects_inner(on_object, arg);
    return NULL;
}

void ebbi_heap_walk(void (*see)(void *, size_t, const struct object_header *, void *),
                    void *context) {
    struct walk walk = {see, context};
    GC_call_with_alloc_lock(walk_locked, &walk);
}

/* --- by type --- */

static void count_object(void *base, size_t cell, const struct object_header *header,
                         void *context) {
    (void)base;
    struct ebb_census *census = context;
    if (header == NULL) {
        census->other_objects++;
        census->other_cells += cell;
        return;
    }
    struct ebb_census_row *row = &census->row[header->type - 1];
    row->objects++;
    row->bytes += header->size;
    row->cells += cell;
}

static int more_bytes_first(const void *a, const void *b) {
    const struct ebb_census_row *x = a, *y = b;
    return x->cells < y->cells ? 1 : x->cells > y->cells ? -1 : 0;
}

static void sort_rows(struct ebb_census *census) { /* qsort might take memory from libc */
    for (size_t i = 1; i < census->rows; i++) {
        struct ebb_census_row row = census->row[i];
        size_t at = i;
        for (; at > 0 && more_bytes_first(&census->row[at - 1], &row) > 0; at--)
            census->row[at] = census->row[at - 1];
        census->row[at] = row;
    }
}

/* --- by the system's account --- */

static bool range_is_heap(uintptr_t from, uintptr_t to) {
    enum { POINTS = 64 };
    size_t step = (to - from) / POINTS;
    for (uintptr_t at = from; at < to; at += step ? step : 1)
        if (GC_is_heap_ptr((void *)at))
            return true;
    return GC_is_heap_ptr((void *)(to - 1));
}

/* Where the resident bytes of the mapping on this line of smaps belong. */
static uint64_t *kind_of(struct ebb_census *census, const char *line) {
    unsigned long from, to;
    if (sscanf(line, "%lx-%lx", &from, &to) != 2)
        return &census->rss_other;
    const char *path = strpbrk(line, "/[\n");
    if (*path == '/')
        return &census->rss_program;
    if (strncmp(path, "[heap]", 6) == 0)
        return &census->rss_libc;
    if (range_is_heap(from, to))
        return &census->rss_heap;
    return strncmp(path, "[stack]", 7) == 0 ? &census->rss_stack : &census->rss_other;
}

static void take_line(struct ebb_census *census, const char *line, uint64_t **kind) {
    if ((line[0] >= '0' && line[0] <= '9') || (line[0] >= 'a' && line[0] <= 'f'))
        *kind = kind_of(census, line);
    else if (strncmp(line, "Rss:", 4) == 0 && *kind) {
        uint64_t bytes = strtoull(line + 4, NULL, 10) * 1024;
        **kind += bytes;
        census->rss += bytes;
    }
}

static void read_smaps(struct ebb_census *census) {
    char text[8192 + 1];
    size_t held = 0;
    ssize_t got;
    uint64_t *kind = NULL;
    int fd = open("/proc/self/smaps", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    while (held < sizeof text - 1 && (got = read(fd, text + held, sizeof text - 1 - held)) > 0) {
        held += (size_t)got;
        text[held] = '\0';
        char *line = text, *end;
        for (; (end = strchr(line, '\n')) != NULL; line = end + 1) {
            char kept = end[1];
            end[1] = '\0';
            take_line(census, line, &kind);
            end[1] = kept;
        }
        held -= (size_t)(line - text);
        memmove(text, line, held);
    }
    close(fd);
}

void ebb_census_take(struct ebb_census *census) {
    memset(census, 0, sizeof *census);
    for (struct ebb_type *type = ebb_types_first(); type; type = type->next) {
        ebb_assert(type->id <= EBB_CENSUS_TYPES, "%u object types: too many for a census",
                   type->id);
        census->row[type->id - 1].type = type;
        census->rows = type->id;
    }
    ebbi_heap_walk(count_object, census);
    ebb_heap_now(&census->now);
    sort_rows(census);
    uint64_t cells = census->other_cells;
    for (size_t i = 0; i < census->rows; i++)
        cells += census->row[i].cells;
    uint64_t used = census->now.heap - census->now.free;
    census->slack = used > cells ? used - cells : 0;
    read_smaps(census);
}

/* --- told --- */

static const char *const lifetimes[] = {
    [EBB_OWNED] = "owned", [EBB_SHARED] = "shared", [EBB_FOREIGN] = "foreign"};

struct figure {
    const char *name, *what;
    uint64_t value;
};

enum { FIGURES = 19 };

static void figures_of(const struct ebb_census *c, struct figure out[FIGURES]) {
    uint64_t cells = 0;
    for (size_t i = 0; i < c->rows; i++)
        cells += c->row[i].cells;
    const struct figure figures[FIGURES] = {
        {"heap_bytes", "heap", c->now.heap},
        {"types_bytes", "  objects of all types, headers included", cells},
        {"other_bytes", "  the collector's own objects and freed cells", c->other_cells},
        {"slack_bytes", "  slack: free cells in blocks in use, and what is new", c->slack},
        {"free_bytes", "  free blocks", c->now.free},
        {"live_bytes", "live: heap without free blocks and dropped bytes", c->now.live},
        {"dropped_bytes", "dropped since the latest collection", c->now.dropped_since},
        {"unmapped_bytes", "given back to the system, not in heap", c->now.unmapped},
        {"rss_bytes", "resident", c->rss},
        {"rss_heap_bytes", "  heap and the collector's tables", c->rss_heap},
        {"unmanaged_bytes", "  unmanaged: all the rest", c->rss - c->rss_heap},
        {"rss_program_bytes", "    program and libraries", c->rss_program},
        {"rss_libc_bytes", "    libc's heap", c->rss_libc},
        {"rss_stack_bytes", "    main stack", c->rss_stack},
        {"rss_other_bytes", "    other: threads' stacks, libc's arenas", c->rss_other},
        {"allocated_since_bytes", "allocated since the latest collection", c->now.allocated_since},
        {"collections", "collections", c->now.number},
        {"finalized", "finalizers run", c->now.finalized},
        {"leaked_objects", "lost without ebb_done", c->now.leaks},
    };
    memcpy(out, figures, sizeof figures);
}

void ebb_census_write_text(struct ebb_writer *writer, const struct ebb_census *census) {
    struct figure figure[FIGURES];
    figures_of(census, figure);
    for (size_t i = 0; i < FIGURES; i++)
        ebb_writef(writer, "%-56s %16" PRIu64 "\n", figure[i].what, figure[i].value);
    ebb_writef(writer, "\n%-20s %-8s %12s %16s %16s %14s %8s  %s\n", "type", "lifetime", "live",
               "bytes", "with headers", "allocated", "lost", "what it is");
    for (size_t i = 0; i < census->rows; i++) {
        const struct ebb_census_row *row = &census->row[i];
        ebb_writef(writer,
                   "%-20s %-8s %12" PRIu64 " %16" PRIu64 " %16" PRIu64 " %14" PRIu64 " %8" PRIu64
                   "  %s\n",
                   row->type->name, lifetimes[row->type->lifetime], row->objects, row->bytes,
                   row->cells, row->type->allocated, row->type->leaked, row->type->what);
    }
    ebb_write(writer, "\nTypes are as of the latest collection.\n");
}

void ebb_census_write_json(struct ebb_writer *writer, const struct ebb_census *census) {
    struct figure figure[FIGURES];
    figures_of(census, figure);
    ebb_writef(writer, "{\"unix_seconds\":%" PRIu64, census->now.unix_ns / EBB_NS_PER_SECOND);
    for (size_t i = 0; i < FIGURES; i++)
        ebb_writef(writer, ",\n\"%s\":%" PRIu64, figure[i].name, figure[i].value);
    ebb_write(writer, ",\n\"types\":[");
    for (size_t i = 0; i < census->rows; i++) {
        const struct ebb_census_row *row = &census->row[i];
        const struct ebb_type *type = row->type;
        ebb_writef(writer, "%s\n{\"type\":\"%s\",\"lifetime\":\"%s\",\"what\":\"", i ? "," : "",
                   type->name, lifetimes[type->lifetime]);
        ebb_write_json_string(writer, type->what, strlen(type->what));
        ebb_writef(writer,
                   "\",\"objects\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"cell_bytes\":%" PRIu64
                   ",\"allocated_objects\":%" PRIu64 ",\"allocated_bytes\":%" PRIu64
                   ",\"leaked_objects\":%" PRIu64 ",\"leaked_bytes\":%" PRIu64 "}",
                   row->objects, row->bytes, row->cells, type->allocated, type->allocated_bytes,
                   type->leaked, type->leaked_bytes);
    }
    ebb_write(writer, "]}\n");
}
