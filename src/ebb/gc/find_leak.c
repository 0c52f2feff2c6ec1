/* find_leak -- GC_find_leak as an independent opinion on what leaked.
 *
 * The collector's own finder says "object at ADDRESS" of everything that is unreachable and was not
 * freed: at most 40 objects a collection, as text to its log file, OWNED and SHARED alike; then it
 * frees them. Here that text is caught and turned into counts.
 *
 * 1. The log file is a memory file of ours, named to the collector by its own environment variable;
 * nothing of it reaches stderr.
 * 2. What did not fit into a report would be swept without a word. The disclaim procedure keeps
 * OWNED objects from that (mem.c), so they stand in a later report; SHARED garbage is swept.
 * 3. A reported object is a free cell when we read of it, but its header is still there, since with
 * find_leak a cell is not cleared when it is freed. The header is wiped once it was counted, so
 * that nothing is counted twice.
 * 4. Nobody allocates between a report and our reading: a cell that was handed out again could not
 * be told from one that was reported. So with find_leak allocations come one at a time, and the
 * first one after a collection makes the report and reads it before it takes a cell. */
#include "gc/object.h"
#include "gc/start.h"
#include "gc/types.h"
#include <ebb/assert.h>
#include <ebb/collector.h>
#include <ebb/err.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>
#include <gc/gc_mark.h>

enum { READ_AT_ONCE = 4096, ROUNDS_MAX = 100000 };
static const char mark[] = "object at ";

static int log_file = -1;
static off_t read_so_far;
static GC_word collection_read; /* the report of this one was read */
static pthread_mutex_t find_leak_lock = PTHREAD_MUTEX_INITIALIZER;

void ebbi_find_leak_start(void) {
    char path[64];
    log_file = memfd_create("gc-log", MFD_CLOEXEC);
    if (log_file < 0) {
        ebb_err_set(EBB_ERR_SYSTEM, "cannot make a memory file for the collector's messages: %s",
                    strerror(errno));
        ebbi_start_refuse();
    }
    ebb_assert(log_file >= 0, "memfd_create for the collector's messages failed");
    snprintf(path, sizeof path, "/proc/self/fd/%d", log_file);
    ebbi_environment_set("GC_LOG_FILE", path);
}

static void lock_take(void) {
    pthread_mutex_lock(&find_leak_lock);
}

static void lock_leave(void) {
    pthread_mutex_unlock(&find_leak_lock);
}

void ebbi_find_leak_survive_fork(void) {
    pthread_atfork(lock_take, lock_leave, lock_leave);
}

static int GC_CALLBACK never(void) {
    return 0;
}

/* The collector reports at the next allocation, not when it finds. */
static void report_now(void) {
    enum { NORMAL = 1 };
    GC_free(GC_generic_malloc(sizeof(void *), NORMAL));
}

/* Counts the object of one line, "object at ADDRESS of appr. SIZE bytes (...)"; true when it was
 * OWNED. The cell is free: its first word, with size and birth, is a link of the free list now. */
static bool count_line(const char *line) {
    const char *at = strstr(line, mark);
    char *rest = NULL;
    void *base = at ? (void *)(uintptr_t)strtoull(at + strlen(mark), &rest, 16) : NULL;
    unsigned long size = 0;
    if (base == NULL || sscanf(rest, " of appr. %lu", &size) != 1)
        return false;
    struct object_header *header = ebbi_object_at_base(base);
    if (header == NULL)
        return false;
    struct ebb_type *type = ebbi_type_at(header->type);
    bool owned = type->lifetime == EBB_OWNED;
    struct object_header found = *header;
    found.size = (size - sizeof found) & OBJECT_SIZE_MAX;
    found.born = ebbi_seconds() & OBJECT_BORN_MASK;
    if (owned)
        ebbi_leak_count(type, &found);
    header->check = 0;
    return owned;
}

/* Counts the new lines of the collector's messages. lines: all of them that name an object. */
static uint64_t read_report(uint64_t *lines) {
    char text[READ_AT_ONCE + 1];
    uint64_t owned = 0;
    ssize_t got;
    *lines = 0;
    while ((got = pread(log_file, text, READ_AT_ONCE, read_so_far)) > 0) {
        text[got] = '\0';
        char *line = text, *end;
        while ((end = strchr(line, '\n')) != NULL) {
            *end = '\0';
            *lines += strstr(line, mark) != NULL;
            owned += count_line(line);
            line = end + 1;
        }
        if (line == text)
            break; /* no whole line: the rest comes later */
        read_so_far += line - text;
    }
    return owned;
}

void ebbi_find_leak_lock(void) {
    pthread_mutex_lock(&find_leak_lock);
    uint64_t lines;
    if (collection_read != GC_get_gc_no()) {
        report_now();
        read_report(&lines);
        collection_read = GC_get_gc_no();
    }
}

void ebbi_find_leak_unlock(void) {
    pthread_mutex_unlock(&find_leak_lock);
}

uint64_t ebb_second_opinion(void) {
    uint64_t found = 0, lines = 1;
    if (log_file < 0)
        return 0;
    ebbi_find_leak_lock();
    for (int round = 0, quiet = 0; round < ROUNDS_MAX && quiet < 2; round++) {
        GC_try_to_collect(never);
        report_now();
        found += read_report(&lines);
        quiet = lines == 0 ? quiet + 1 : 0;
    }
    ebbi_find_leak_unlock();
    return found;
}
