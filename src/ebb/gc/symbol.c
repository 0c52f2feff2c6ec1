/* symbol -- return addresses as function (file:line), for leak reports.
 *
 * Debug information says most (names.c), and is read by another process; where there is none, or no
 * answer, the dynamic symbol stands, or where the address lies in its file. It is slow (the first
 * answer takes some 50 ms): for reports, between iterations, never on a hot path. */
#include "gc/graph.h"
#include "gc/names.h"
#include "gc/object.h"
#include <ebb/collector.h>
#include <ebb/writer.h>
#include <dlfcn.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

enum { NAME_BYTES = 256 };

/* The session of the thread between begin and end; all under symbol_lock, which may be taken again
 * by its holder. */
static pthread_mutex_t symbol_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static bool session; /* there is room for debug information */
static int session_users;
static _Thread_local int depth;
static _Thread_local bool reserved;

static bool ask(enum names_of what, uintptr_t at, char name[NAME_BYTES]) {
    return session && ebbi_name_ask(what, at, name, NAME_BYTES);
}

/* False, and nothing written, when nobody knows the function that is at the address. */
static bool write_function(uintptr_t at, struct ebb_writer *out) {
    char name[NAME_BYTES];
    Dl_info info;
    const char *function = ask(NAME_OF_FUNCTION, at, name) ? name : NULL;
    if (function == NULL && dladdr((void *)at, &info) && info.dli_sname)
        function = info.dli_sname;
    if (function)
        ebb_writef(out, "%.*s", (int)strcspn(function, "."), function); /* no ".constprop.0" */
    return function != NULL;
}

/* "libc.so.6+0x2718a": what addr2line asks for. */
static void write_nameless(uintptr_t at, struct ebb_writer *out) {
    Dl_info info;
    if (dladdr((void *)at, &info) && info.dli_fname)
        ebb_writef(out, "%s+0x%" PRIxPTR,
                   strrchr(info.dli_fname, '/') ? strrchr(info.dli_fname, '/') + 1 : info.dli_fname,
                   at - (uintptr_t)info.dli_fbase);
    else
        ebb_writef(out, "0x%" PRIxPTR, at);
}

static void describe_frame(uintptr_t address, struct ebb_writer *out) {
    uintptr_t call = address - 1; /* the return address is one behind the call */
    char line[NAME_BYTES];
    if (!write_function(call, out))
        write_nameless(call, out);
    if (ask(NAME_OF_LINE, call, line))
        ebb_writef(out, " (%s)", line);
}

static void lock_take(void) {
    pthread_mutex_lock(&symbol_lock);
}

static void lock_leave(void) {
    pthread_mutex_unlock(&symbol_lock);
}

/* The child has another number than the thread that took it. */
static void lock_renew(void) {
    symbol_lock = (pthread_mutex_t)PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
}

void ebbi_symbols_survive_fork(void) {
    pthread_atfork(lock_take, lock_leave, lock_renew);
}

enum { SESSION_BYTES = 12 << 20 }; /* about what debug information takes while it is read */

/* Room is asked for before the lock is taken: who makes it may have something to report. Without
 * room there is no session, and then the names that the dynamic linker knows. */
void ebbi_symbols_begin(void) {
    if (depth++ == 0)
        reserved = ebb_reserve(SESSION_BYTES);
    pthread_mutex_lock(&symbol_lock);
    if (session_users++ == 0) {
        session = reserved;
        ebbi_names_begin();
    }
}

void ebbi_symbols_end(void) {
    if (--session_users == 0)
        ebbi_names_end();
    pthread_mutex_unlock(&symbol_lock);
    if (--depth == 0 && reserved)
        ebb_unreserve(SESSION_BYTES);
}

bool ebbi_function_write(struct ebb_writer *out, uintptr_t at) {
    ebbi_symbols_begin();
    bool known = write_function(at, out);
    ebbi_symbols_end();
    return known;
}

void ebb_site_describe(const struct ebb_site *site, int frames_max, char *out, size_t size) {
    struct ebb_array_writer writer;
    ebb_array_writer_init(&writer, out, size);
    ebbi_symbols_begin();
    for (int i = 0; i < EBB_SITE_FRAMES && i < frames_max && site->frame[i] != 0; i++) {
        if (i > 0)
            ebb_write(&writer.writer, " < ");
        describe_frame(site->frame[i], &writer.writer);
    }
    ebbi_symbols_end();
    if (site->frame[0] == 0)
        ebb_write(&writer.writer, "(call site unknown)");
}

enum { LABELS = 200, LABEL_MAX = 128 };
static char labels[LABELS + 1][LABEL_MAX];
static _Atomic uint32_t labels_used;

/* The innermost frame that is not the library's: of what it makes for others, who asked for it. */
static void describe_caller(const struct ebb_site *site, char *out, size_t size) {
    static const char library[] = "ebb_", nameless[] = "0x";
    for (int i = 0; i < EBB_SITE_FRAMES && site->frame[i] != 0; i++) {
        const struct ebb_site frame = {.frame = {site->frame[i]}};
        ebb_site_describe(&frame, 1, out, size);
        if (strstr(out, nameless))
            break;
        if (strncmp(out, library, strlen(library)) != 0)
            return;
    }
    ebb_site_describe(site, 1, out, size);
}

const char *ebb_site_label(const struct ebb_site *site) {
    struct ebb_site *writable = (struct ebb_site *)(uintptr_t)site;
    uint32_t label = atomic_load_explicit(&writable->label, memory_order_acquire);
    if (label == 0 && atomic_load_explicit(&labels_used, memory_order_relaxed) < LABELS) {
        ebbi_symbols_begin();
        label = atomic_load_explicit(&writable->label, memory_order_acquire);
        if (label == 0 && labels_used < LABELS) {
            label = labels_used + 1;
            describe_caller(site, labels[label], LABEL_MAX);
            labels_used = label;
            atomic_store_explicit(&writable->label, label, memory_order_release);
        }
        ebbi_symbols_end();
    }
    return label ? labels[label] : "other";
}

void ebbi_variable_name(const void *address, char *out, size_t size) {
    char name[NAME_BYTES];
    struct ebb_array_writer writer;
    ebb_array_writer_init(&writer, out, size);
    ebbi_symbols_begin();
    if (ask(NAME_OF_VARIABLE, (uintptr_t)address, name))
        ebb_write(&writer.writer, name);
    else
        write_nameless((uintptr_t)address, &writer.writer);
    ebbi_symbols_end();
}
