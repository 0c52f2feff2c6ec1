/* pprof -- the heap by call site, in the text format that gperftools began and pprof reads.
 *
 * "heap profile: inuse objects: bytes [allocated objects: bytes] @ heapprofile", a line a site with
 * its return addresses, and a copy of /proc/self/maps by which the tools find symbols.
 *
 * In use is allocated - gone: what was not yet found dead is counted. */
#include "gc/object.h"
#include <ebb/heap.h>
#include <fcntl.h>
#include <inttypes.h>
#include <unistd.h>

struct sums {
    uint64_t held, held_bytes, allocated, allocated_bytes;
};

static struct sums sums_of(const struct ebb_site *site) {
    struct sums s = {.allocated = site->allocated, .allocated_bytes = site->allocated_bytes};
    uint64_t gone = site->gone, gone_bytes = site->gone_bytes;
    s.held = s.allocated > gone ? s.allocated - gone : 0;
    s.held_bytes = s.allocated_bytes > gone_bytes ? s.allocated_bytes - gone_bytes : 0;
    return s;
}

static void add_up(const struct ebb_site *site, void *context) {
    struct sums *all = context, s = sums_of(site);
    all->held += s.held;
    all->held_bytes += s.held_bytes;
    all->allocated += s.allocated;
    all->allocated_bytes += s.allocated_bytes;
}

static void write_sums(struct ebb_writer *writer, const struct sums *s) {
    ebb_writef(writer, "%6" PRIu64 ": %8" PRIu64 " [%6" PRIu64 ": %8" PRIu64 "] @", s->held,
               s->held_bytes, s->allocated, s->allocated_bytes);
}

static void write_site(const struct ebb_site *site, void *context) {
    struct ebb_writer *writer = context;
    struct sums s = sums_of(site);
    if (s.allocated == 0)
        return;
    write_sums(writer, &s);
    for (int i = 0; i < EBB_SITE_FRAMES && site->frame[i]; i++)
        ebb_writef(writer, " 0x%" PRIxPTR, site->frame[i]);
    ebb_write(writer, "\n");
}

static void write_maps(struct ebb_writer *writer) {
    char text[4096];
    ssize_t got;
    int fd = open("/proc/self/maps", O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    while ((got = read(fd, text, sizeof text)) > 0)
        writer->write(writer, text, (size_t)got);
    close(fd);
}

void ebb_heap_profile_write(struct ebb_writer *writer) {
    struct sums all = {0};
    ebb_sites_each(add_up, &all);
    ebb_write(writer, "heap profile: ");
    write_sums(writer, &all);
    ebb_write(writer, " heapprofile\n");
    ebb_sites_each(write_site, writer);
    ebb_write(writer, "\nMAPPED_LIBRARIES:\n");
    write_maps(writer);
}
