/* names -- a copy of the process that reads debug information.
 *
 * libdw is large, and does not survive that it gets no memory. So it works in a forked copy, with
 * as much memory and time as debug information needs, and is asked through a pair of sockets. When
 * the copy has ended, or does not answer, only names are missing. A copy that looks at the heap is
 * one already, and reads them itself.
 *
 * 1. The process that serves never calls libdw.
 * 2. The copy lives from the first question of a session to its end, and is reaped there; after a
 * question without an answer there are no more in this session.
 * 3. The environment does not send the copy to the network (debuginfod). */
#include "gc/names.h"
#include "gc/copy.h"
#include "telemetry/metrics.h"
#include <ebb/clock.h>
#include <elfutils/libdwfl.h>
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ANSWER_BYTES = 256, PATIENCE_MS = 5000, COPY_SECONDS_MAX = 60 };
#define MEMORY_BYTES                                                                               \
    (UINT64_C(256) << 20) /* beyond what the process has; debug files not counted */

struct question {
    enum names_of what;
    uintptr_t at;
};

/* --- in a copy --- */

static char *no_debuginfo_path = NULL;
static bool reads_here;
static Dwfl *debug_info;

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

static Dwfl *read_debug_info(void) {
    static const Dwfl_Callbacks callbacks = {.find_elf = dwfl_linux_proc_find_elf,
                                             .find_debuginfo = find_debuginfo,
                                             .debuginfo_path = &no_debuginfo_path};
    unsetenv("DEBUGINFOD_URLS");
    Dwfl *dwfl = dwfl_begin(&callbacks);
    if (dwfl &&
        (dwfl_linux_proc_report(dwfl, getpid()) != 0 || dwfl_report_end(dwfl, NULL, NULL) != 0)) {
        dwfl_end(dwfl);
        return NULL;
    }
    return dwfl;
}

static void function_at(Dwfl_Module *module, uintptr_t at, char *text, size_t size) {
    const char *name = dwfl_module_addrname(module, at);
    if (name)
        snprintf(text, size, "%s", name);
}

static void line_at(Dwfl_Module *module, uintptr_t at, char *text, size_t size) {
    int number = 0;
    Dwfl_Line *line = dwfl_module_getsrc(module, at);
    const char *file = line ? dwfl_lineinfo(line, NULL, &number, NULL, NULL, NULL) : NULL;
    if (file)
        snprintf(text, size, "%s:%d", strrchr(file, '/') ? strrchr(file, '/') + 1 : file, number);
}

static void variable_at(Dwfl_Module *module, uintptr_t at, char *text, size_t size) {
    GElf_Off offset = 0;
    GElf_Sym symbol;
    const char *name = dwfl_module_addrinfo(module, at, &offset, &symbol, NULL, NULL, NULL);
    if (name && offset == 0)
        snprintf(text, size, "%s", name);
    else if (name)
        snprintf(text, size, "%s+%lu", name, (unsigned long)offset);
}

/* Zeroed variables lie behind what is mapped from the file, so their file is asked for by its base.
 */
static Dwfl_Module *module_of(const struct question *question) {
    Dl_info info;
    if (question->what != NAME_OF_VARIABLE)
        return dwfl_addrmodule(debug_info, question->at);
    bool known = dladdr((void *)question->at, &info) && info.dli_fbase;
    return known ? dwfl_addrmodule(debug_info, (uintptr_t)info.dli_fbase) : NULL;
}

static void answer(const struct question *question, char *text, size_t size) {
    static void (*const by[])(Dwfl_Module *, uintptr_t, char *, size_t) = {
        [NAME_OF_FUNCTION] = function_at,
        [NAME_OF_LINE] = line_at,
        [NAME_OF_VARIABLE] = variable_at,
    };
    if (debug_info == NULL)
        debug_info = read_debug_info();
    Dwfl_Module *module = debug_info ? module_of(question) : NULL;
    text[0] = '\0';
    if (module)
        by[question->what](module, question->at, text, size);
}

void ebbi_names_here(void) {
    reads_here = true;
}

static void limit(int what, rlim_t most) {
    struct rlimit now;
    if (getrlimit(what, &now) == 0 && now.rlim_cur > most) {
        now.rlim_cur = most;
        setrlimit(what, &now);
    }
}

static _Noreturn void be_copy(int from) {
    ebbi_copy_begin((const int[COPY_KEEPS]){from, -1, -1}, COPY_SECONDS_MAX);
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_DATA, ebbi_process_data() + MEMORY_BYTES);
    struct question question;
    char text[ANSWER_BYTES];
    while (recv(from, &question, sizeof question, 0) == sizeof question) {
        answer(&question, text, sizeof text);
        if (send(from, text, strlen(text) + 1, MSG_NOSIGNAL) < 0)
            break;
    }
    _exit(0);
}

/* --- in the process --- */

static int copy_socket = -1;
static pid_t copy_id;
static bool copy_tried; /* in this session */

static void copy_start(void) {
    int ends[2];
    copy_tried = true;
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        return;
    copy_id = fork();
    if (copy_id == 0)
        be_copy(ends[1]);
    close(ends[1]);
    if (copy_id > 0)
        copy_socket = ends[0];
    else
        close(ends[0]);
}

static void copy_end(void) {
    if (copy_socket < 0)
        return;
    close(copy_socket);
    copy_socket = -1;
    kill(copy_id, SIGKILL); /* it has nothing to lose */
    while (waitpid(copy_id, NULL, 0) < 0 && errno == EINTR)
        ;
}

static bool is_answered(void) {
    uint64_t until_ns = ebb_clock_ns() + PATIENCE_MS * EBB_NS_PER_MS, now_ns;
    struct pollfd one = {.fd = copy_socket, .events = POLLIN};
    while ((now_ns = ebb_clock_ns()) < until_ns) {
        int ready = poll(&one, 1, (int)((until_ns - now_ns) / EBB_NS_PER_MS) + 1);
        if (ready >= 0 || errno != EINTR)
            return ready > 0;
    }
    return false;
}

static bool ask_copy(const struct question *question, char *text, size_t size) {
    if (!copy_tried)
        copy_start();
    if (copy_socket < 0)
        return false;
    ssize_t got = -1;
    if (send(copy_socket, question, sizeof *question, MSG_NOSIGNAL) > 0 && is_answered())
        got = recv(copy_socket, text, size, 0);
    if (got > 0) {
        text[got - 1] = '\0';
        return true;
    }
    copy_end();
    return false;
}

bool ebbi_name_ask(enum names_of what, uintptr_t at, char *text, size_t size) {
    const struct question question = {what, at};
    text[0] = '\0';
    if (reads_here)
        answer(&question, text, size);
    else if (!ask_copy(&question, text, size))
        text[0] = '\0';
    return text[0] != '\0';
}

void ebbi_names_begin(void) {
    copy_tried = false;
}

void ebbi_names_end(void) {
    copy_end();
    if (debug_info)
        dwfl_end(debug_info);
    debug_info = NULL;
}
