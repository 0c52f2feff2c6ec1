/* symbol -- return addresses as function (file:line), for leak reports.
 *
 * libdw reads the debug information of the running program; where there is none, the dynamic symbol
 * or the bare address stands. It is slow (the first answer takes some 50 ms) and uses libc's
 * memory, all of which is returned before we return: for reports, between turns, never on a hot
 * path. */
#include <ebb/leak.h>
#include <ebb/log.h>
#include <ebb/writer.h>
#include <dlfcn.h>
#include <elfutils/libdwfl.h>
#include <inttypes.h>
#include <pthread.h>
#include <string.h>
#include <unistd.h>

static pthread_mutex_t symbol_lock = PTHREAD_MUTEX_INITIALIZER;
static char *no_debuginfo_path = NULL;

static Dwfl *session_open(void) {
    static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_linux_proc_find_elf,
                                             .find_debuginfo = dwfl_standard_find_debuginfo,
                                             .debuginfo_path = &no_debuginfo_path};
    Dwfl *dwfl = dwfl_begin(&callbacks);
    if (dwfl &&
        (dwfl_linux_proc_report(dwfl, getpid()) != 0 || dwfl_report_end(dwfl, NULL, NULL) != 0)) {
        dwfl_end(dwfl);
        return NULL;
    }
    return dwfl;
}

static void describe_frame(Dwfl *dwfl, uintptr_t address, struct ebb_writer *out) {
    uintptr_t call = address - 1; /* the return address is one behind the call */
    Dwfl_Module *module = dwfl ? dwfl_addrmodule(dwfl, call) : NULL;
    const char *function = module ? dwfl_module_addrname(module, call) : NULL;
    Dwfl_Line *line = module ? dwfl_module_getsrc(module, call) : NULL;
    int number = 0;
    const char *file = line ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
    Dl_info info;
    if (function == NULL && dladdr((void *)call, &info) && info.dli_sname)
        function = info.dli_sname;
    if (function)
        ebb_writef(out, "%s", function);
    else
        ebb_writef(out, "0x%" PRIxPTR, address);
    if (file)
        ebb_writef(out, " (%s:%d)", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, number);
}

void ebb_site_describe(const struct ebb_site *site, int frames_max, char *out, size_t size) {
    struct ebb_array_writer writer;
    ebb_array_writer_init(&writer, out, size);
    pthread_mutex_lock(&symbol_lock);
    Dwfl *dwfl = session_open();
    for (int i = 0; i < EBB_SITE_FRAMES && i < frames_max && site->frame[i] != 0; i++) {
        if (i > 0)
            ebb_write(&writer.writer, " < ");
        describe_frame(dwfl, site->frame[i], &writer.writer);
    }
    if (dwfl)
        dwfl_end(dwfl);
    pthread_mutex_unlock(&symbol_lock);
    if (site->frame[0] == 0)
        ebb_write(&writer.writer, "(call site unknown)");
}

struct telling {
    int sites;
};

static void tell_site(const struct ebb_site *site, void *context) {
    struct telling *telling = context;
    struct ebb_site *writable = (struct ebb_site *)(uintptr_t)site;
    uint32_t untold = atomic_exchange_explicit(&writable->untold, 0, memory_order_relaxed);
    if (untold == 0 || site->leaked > untold) /* once per site: only its first leaks are told */
        return;
    char where[1024];
    ebb_site_describe(site, EBB_SITE_FRAMES, where, sizeof where);
    ebb_log_warn("leak", "%u %s (%" PRIu64 " bytes) collected without ebb_done, from %s", untold,
                 site->type ? site->type->name : "objects of several types", site->leaked_bytes,
                 where);
    telling->sites++;
}

int ebb_leaks_tell(void) {
    static _Atomic uint64_t told;
    uint64_t now = ebb_leaks_count();
    if (atomic_exchange_explicit(&told, now, memory_order_relaxed) == now)
        return 0;
    struct telling telling = {0};
    ebb_leaks_each(tell_site, &telling);
    return telling.sites;
}
