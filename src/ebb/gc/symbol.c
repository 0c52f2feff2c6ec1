/* symbol -- return addresses as function (file:line), for leak reports.
 *
 * libdw reads the debug information of the running program; where there is none, the dynamic symbol
 * or the bare address stands. It is slow (the first answer takes some 50 ms) and uses libc's
 * memory, all of which is returned before we return: for reports, between turns, never on a hot
 * path. */
#include "gc/graph.h"
#include "gc/object.h"
#include <ebb/collector.h>
#include <ebb/writer.h>
#include <dlfcn.h>
#include <elfutils/libdwfl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static char *no_debuginfo_path = NULL;

/* Debug information that lies in a file of its own is read for the program only: the C library's is
 * some 15 MiB, and says little about who called. */
static int find_debuginfo(Dwfl_Module *module, void **user, const char *name, Dwarf_Addr base,
                          const char *file, const char *link, GElf_Word crc, char **found) {
    Dwarf_Addr start, end, here = (Dwarf_Addr)(uintptr_t)&find_debuginfo;
    dwfl_module_info(module, NULL, &start, &end, NULL, NULL, NULL, NULL);
    if (here < start || here >= end)
        return -1;
    return dwfl_standard_find_debuginfo(module, user, name, base, file, link, crc, found);
}

static Dwfl *session_open(void) {
    static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_linux_proc_find_elf,
                                             .find_debuginfo = find_debuginfo,
                                             .debuginfo_path = &no_debuginfo_path};
    Dwfl *dwfl = dwfl_begin(&callbacks);
    if (dwfl &&
        (dwfl_linux_proc_report(dwfl, getpid()) != 0 || dwfl_report_end(dwfl, NULL, NULL) != 0)) {
        dwfl_end(dwfl);
        return NULL;
    }
    return dwfl;
}

/* False, and nothing written, when nobody knows the function that is at the address. */
static bool write_function(Dwfl_Module *module, uintptr_t at, struct ebb_writer *out) {
    const char *function = module ? dwfl_module_addrname(module, at) : NULL;
    Dl_info info;
    if (function == NULL && dladdr((void *)at, &info) && info.dli_sname)
        function = info.dli_sname;
    if (function)
        ebb_writef(out, "%.*s", (int)strcspn(function, "."), function); /* no ".constprop.0" */
    return function != NULL;
}

static void describe_frame(Dwfl *dwfl, uintptr_t address, struct ebb_writer *out) {
    uintptr_t call = address - 1; /* the return address is one behind the call */
    Dwfl_Module *module = dwfl ? dwfl_addrmodule(dwfl, call) : NULL;
    Dwfl_Line *line = module ? dwfl_module_getsrc(module, call) : NULL;
    int number = 0;
    const char *file = line ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
    if (!write_function(module, call, out))
        ebb_writef(out, "0x%" PRIxPTR, address);
    if (file)
        ebb_writef(out, " (%s:%d)", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, number);
}

/* The session of the thread between begin and end; all under symbol_lock, which may be taken again
 * by its holder. */
static pthread_mutex_t symbol_lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;
static Dwfl *session;
static int session_users;
static _Thread_local int depth;
static _Thread_local bool reserved;

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
    if (session_users++ == 0 && reserved)
        session = session_open();
}

void ebbi_symbols_end(void) {
    if (--session_users == 0 && session) {
        dwfl_end(session);
        session = NULL;
    }
    pthread_mutex_unlock(&symbol_lock);
    if (--depth == 0 && reserved)
        ebb_unreserve(SESSION_BYTES);
}

bool ebbi_function_write(struct ebb_writer *out, uintptr_t at) {
    ebbi_symbols_begin();
    bool known = write_function(session ? dwfl_addrmodule(session, at) : NULL, at, out);
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
        describe_frame(session, site->frame[i], &writer.writer);
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
        if (strncmp(out, nameless, strlen(nameless)) == 0)
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

static void describe_nameless(uintptr_t at, char *out, size_t size) {
    Dl_info info;
    if (dladdr((void *)at, &info) && info.dli_fname)
        snprintf(out, size, "%s+0x%" PRIxPTR,
                 strrchr(info.dli_fname, '/') ? strrchr(info.dli_fname, '/') + 1 : info.dli_fname,
                 at - (uintptr_t)info.dli_fbase);
    else
        snprintf(out, size, "0x%" PRIxPTR, at);
}

void ebbi_variable_name(const void *address, char *out, size_t size) {
    ebbi_symbols_begin();
    GElf_Off offset = 0;
    GElf_Sym symbol;
    uintptr_t at = (uintptr_t)address;
    /* Zeroed variables lie behind what is mapped from the file, so the file is asked for by its
     * base. */
    Dl_info info;
    bool known = dladdr(address, &info) && info.dli_fbase;
    Dwfl_Module *module =
        session && known ? dwfl_addrmodule(session, (uintptr_t)info.dli_fbase) : NULL;
    const char *name =
        module ? dwfl_module_addrinfo(module, at, &offset, &symbol, NULL, NULL, NULL) : NULL;
    if (name == NULL)
        describe_nameless(at, out, size);
    else if (offset == 0)
        snprintf(out, size, "%s", name);
    else
        snprintf(out, size, "%s+%lu", name, (unsigned long)offset);
    ebbi_symbols_end();
}
