/* pprof -- the heap by call site, in the text format that gperftools began and pprof reads.
 *
 * "heap profile: inuse objects: bytes [allocated objects: bytes] @ heapprofile", a line a site with
 * its return addresses, and a copy of /proc/self/maps by which the tools find symbols.
 *
 * In use is allocated - gone: what was not yet found dead is counted.
 *
 * A tool that has no copy of the program asks us for the names: addresses come as "0x1a+0x2b",
 * names go as "0x1a", a tab and the name, a line each. */
#include "gc/object.h"
#include <ctype.h>
#include <ebb/heap.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
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

static void write_file(struct ebb_writer *writer, const char *path) {
    char text[4096];
    ssize_t got;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
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
    write_file(writer, "/proc/self/maps");
}

bool ebb_heap_symbols_write(struct ebb_writer *writer, const char *addresses) {
    bool readable = true;
    ebbi_symbols_begin();
    for (const char *at = addresses; *at && readable;) {
        char *end, name[256];
        struct ebb_array_writer function;
        uintptr_t address = strtoull(at, &end, 16);
        readable = isxdigit((unsigned char)*at) && end != at && (*end == '+' || *end == '\0');
        ebb_array_writer_init(&function, name, sizeof name);
        if (readable && ebbi_function_write(&function.writer, address))
            ebb_writef(writer, "0x%" PRIxPTR "\t%s\n", address, name);
        at = end + (*end == '+');
    }
    ebbi_symbols_end();
    return readable;
}

void ebb_heap_cmdline_write(struct ebb_writer *writer) {
    write_file(writer, "/proc/self/cmdline");
}
