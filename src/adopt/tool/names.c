/* names -- return addresses of a watched process as function (file:line), with libdw.
 *
 * The process may have ended by now, so its maps come with the report, and the files that they name
 * are read: symbols, and debug information where it is installed. A function without a name is
 * given as its library and the offset there, which addr2line takes.
 *
 * 1. A site is resolved once. Its text is kept.
 * 2. libdw's memory is given back before we return. */
#include "adopt.h"

#include <elfutils/libdwfl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

static Dwfl *session;

static const char *last_part(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static void open_session(const struct adopted_process *process) {
    static char *no_path = NULL;
    static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_linux_proc_find_elf,
                                             .find_debuginfo = dwfl_standard_find_debuginfo,
                                             .debuginfo_path = &no_path};
    FILE *maps = fmemopen(process->maps, process->maps_bytes, "r");
    if (maps == NULL)
        return;
    session = dwfl_begin(&callbacks);
    if (session && (dwfl_linux_proc_maps_report(session, maps) != 0 ||
                    dwfl_report_end(session, NULL, NULL) != 0)) {
        dwfl_end(session);
        session = NULL;
    }
    fclose(maps);
}

static void write_place(struct ebb_writer *out, Dwfl_Module *module, Dwarf_Addr call) {
    Dwarf_Addr start = 0;
    const char *file = NULL;
    int number = 0;
    const char *name = dwfl_module_info(module, NULL, &start, NULL, NULL, NULL, &file, NULL);
    Dwfl_Line *line = dwfl_module_getsrc(module, call);
    const char *source = line ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
    if (source)
        ebb_writef(out, " (%s:%d)", last_part(source), number);
    else
        ebb_writef(out, " (%s+0x%" PRIx64 ")", last_part(file ? file : name), call - start);
}

/* A return address is one behind its call. */
static void write_frame(struct ebb_writer *out, uint64_t address) {
    Dwfl_Module *module = session ? dwfl_addrmodule(session, address - 1) : NULL;
    if (module == NULL) {
        ebb_writef(out, "0x%" PRIx64, address);
        return;
    }
    const char *function = dwfl_module_addrname(module, address - 1);
    if (function)
        ebb_writef(out, "%.*s", (int)strcspn(function, ".@"), function); /* no ".constprop.0" */
    else
        ebb_write(out, "?");
    write_place(out, module, address - 1);
}

static void resolve(struct adopted_site *site, void *context) {
    const struct adopted_process *process = context;
    if (site->text)
        return;
    if (session == NULL && process->maps_bytes > 0)
        open_session(process);
    char text[SITE_TEXT_MAX];
    struct ebb_array_writer writer;
    ebb_array_writer_init(&writer, text, sizeof text);
    for (uint32_t i = 0; i < site->row.frames; i++) {
        ebb_write(&writer.writer, i > 0 ? " < " : "");
        write_frame(&writer.writer, site->row.frame[i]);
    }
    if (site->row.frames == 0)
        ebb_write(&writer.writer, "(call path unknown)");
    char *kept = ebb_bytes(writer.used + 1);
    memcpy(kept, text, writer.used + 1);
    site->text = kept;
}

void names_resolve(struct adopted_process *process) {
    process_sites_each(process, resolve, process);
    if (session)
        dwfl_end(session);
    session = NULL;
}
