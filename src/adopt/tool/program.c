/* program -- finds the program, says whether it can be watched, starts it, and knows when it has
 * ended: itself, and whatever it left behind.
 *
 * A daemon that goes into the background ends at once and leaves a child. We are the subreaper, so
 * that its orphans become our children, and the end is when there is none.
 *
 * 1. Nothing but the environment is changed for the program: LD_PRELOAD and EBB_ADOPT.
 * 2. What is told to end is what was started, and once that is gone, our remaining children. */
#include "adopt.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STATUS_NOT_RUNNABLE = 126, STATUS_NOT_FOUND = 127, HEAD_BYTES = 4096, PATH_TEXT = 512 };

static ebb_fd child;
static struct ebb_watch *child_watch;
static bool child_ended, all_ended, asked_to_end;
static int child_status;
static void (*on_ended)(void *);
static void *on_ended_arg;

/* --- finding --- */

static bool is_program(const char *path) {
    struct stat status;
    return stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0;
}

static enum ebb_err found(const char *word, const char *path, int *status) {
    if (is_program(path))
        return EBB_OK;
    if (access(path, F_OK) != 0) {
        *status = STATUS_NOT_FOUND;
        return ebb_err_set(EBB_ERR_USAGE, "%s: no such program", word);
    }
    *status = STATUS_NOT_RUNNABLE;
    return ebb_err_set(EBB_ERR_USAGE, "%s: is no file that this user may execute", word);
}

enum ebb_err program_find(const char *word, char *path, size_t size, int *status) {
    const char *folder = getenv("PATH");
    if (strchr(word, '/') || folder == NULL) {
        snprintf(path, size, "%s", word);
        return found(word, path, status);
    }
    while (*folder) {
        size_t length = strcspn(folder, ":");
        snprintf(path, size, "%.*s/%s", (int)length, folder, word);
        if (is_program(path))
            return EBB_OK;
        folder += length + (folder[length] == ':');
    }
    *status = STATUS_NOT_FOUND;
    return ebb_err_set(EBB_ERR_USAGE, "%s: no such program in $PATH", word);
}

/* --- whether it can be watched --- */

/* Before the daemon, and so any scope, exists. */
static ssize_t read_head(const char *path, void *head, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t got = fd < 0 ? -1 : pread(fd, head, size, 0);
    if (fd >= 0)
        close(fd);
    return got;
}

static bool has_interpreter(const char *head, size_t bytes) {
    const Elf64_Ehdr *file = (const void *)head;
    for (int i = 0; i < file->e_phnum; i++) {
        size_t at = file->e_phoff + (size_t)i * sizeof(Elf64_Phdr);
        if (at + sizeof(Elf64_Phdr) > bytes)
            return false;
        if (((const Elf64_Phdr *)(const void *)(head + at))->p_type == PT_INTERP)
            return true;
    }
    return false;
}

/* Whether the file's tables of strings have this name, with its NULs. */
static bool mentions(const char *path, const char *name, size_t length) {
    static char text[1 << 16];
    size_t kept = 0;
    ssize_t got;
    bool found_it = false;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && !found_it && (got = read(fd, text + kept, sizeof text - kept)) > 0) {
        size_t have = kept + (size_t)got;
        found_it = memmem(text, have, name, length) != NULL;
        kept = have < length ? have : length;
        memmove(text, text + have - kept, kept); /* it may lie across two pieces */
    }
    if (fd >= 0)
        close(fd);
    return found_it;
}

static const char collector[] = "\0libgc.so.1";

static enum ebb_err check_binary(const char *path, const char *head, size_t bytes) {
    const Elf64_Ehdr *file = (const void *)head;
    if (bytes < sizeof *file || memcmp(head, ELFMAG, SELFMAG) != 0)
        return ebb_err_set(EBB_ERR_USAGE, "%s is neither an ELF program nor a script", path);
    if (file->e_ident[EI_CLASS] != ELFCLASS64 || file->e_machine != EM_X86_64)
        return ebb_err_set(EBB_ERR_USAGE, "%s is not for x86-64", path);
    if (!has_interpreter(head, bytes))
        return ebb_err_set(EBB_ERR_USAGE,
                           "%s is linked statically: there is no malloc to put another in place of",
                           path);
    if (mentions(path, collector, sizeof collector))
        return ebb_err_set(
            EBB_ERR_USAGE,
            "%s uses libgc itself, and two heaps of one library cannot share a process", path);
    return EBB_OK;
}

static enum ebb_err check_preload(void) {
    const char *preload = getenv("LD_PRELOAD");
    if (preload && preload[0] != '\0')
        return ebb_err_set(EBB_ERR_USAGE,
                           "LD_PRELOAD=%.100s is set, which may bring another malloc: unset it",
                           preload);
    return EBB_OK;
}

enum ebb_err program_check(const char *path) {
    static _Alignas(8) char head[HEAD_BYTES];
    char interpreter[PATH_TEXT];
    struct stat status;
    if (stat(path, &status) == 0 && status.st_mode & (S_ISUID | S_ISGID))
        return ebb_err_set(EBB_ERR_USAGE,
                           "%s is setuid or setgid: the system preloads nothing into it", path);
    ssize_t got = read_head(path, head, sizeof head - 1);
    if (got < 0)
        return ebb_err_set(EBB_ERR_USAGE, "%s cannot be read: %s", path, strerror(errno));
    head[got] = '\0';
    if (strncmp(head, "#!", 2) != 0) {
        enum ebb_err error = check_preload();
        return error ? error : check_binary(path, head, (size_t)got);
    }
    const char *at = head + 2 + strspn(head + 2, " ");
    snprintf(interpreter, sizeof interpreter, "%.*s", (int)strcspn(at, " \n"), at);
    if (strcmp(interpreter, path) == 0)
        return ebb_err_set(EBB_ERR_USAGE, "%s is its own interpreter", path);
    return program_check(interpreter);
}

enum ebb_err program_library(const char *given, char *path, size_t size) {
    char self[PATH_TEXT / 2];
    if (given) {
        if (realpath(given, path) != NULL && access(path, R_OK) == 0)
            return EBB_OK;
        return ebb_err_set(EBB_ERR_USAGE, "--library %s: %s", given, strerror(errno));
    }
    ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);
    if (length < 0)
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot read /proc/self/exe: %s", strerror(errno));
    self[length] = '\0';
    *strrchr(self, '/') = '\0';
    snprintf(path, size, "%s/libebb-adopt.so", self);
    if (access(path, R_OK) == 0)
        return EBB_OK;
    snprintf(path, size, "%s/" ADOPT_LIBRARY_FROM_HERE, self);
    if (access(path, R_OK) == 0)
        return EBB_OK;
    return ebb_err_set(EBB_ERR_USAGE, "libebb-adopt.so is neither in %s nor at %s: give --library",
                       self, path);
}

/* --- running --- */

static void end(void) {
    if (all_ended)
        return;
    all_ended = true;
    on_ended(on_ended_arg);
}

/* Children that are no longer anybody's but ours. */
static void reap_orphans(void) {
    siginfo_t ended;
    for (;;) {
        memset(&ended, 0, sizeof ended);
        if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | __WALL) != 0) {
            if (errno == ECHILD)
                end();
            return;
        }
        if (ended.si_pid == 0)
            return;
        processes_ended(ended.si_pid);
    }
}

static void on_child_end(int events, void *arg) {
    (void)events, (void)arg;
    processes_ended(ebb_child_id(child));
    if (ebb_child_wait(child, &child_status) != EBB_OK)
        child_status = STATUS_NOT_RUNNABLE;
    ebb_watch_close(child_watch);
    ebb_fd_close(child);
    child_watch = NULL;
    child_ended = true;
    reap_orphans();
    if (!all_ended)
        ebb_log_event(adopted_background);
}

enum ebb_err program_start(struct ebb_loop *loop, struct ebb_scope *scope,
                           const char *const words[], void (*ended)(void *), void *arg) {
    static const int standard[3] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO};
    on_ended = ended;
    on_ended_arg = arg;
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    enum ebb_err error = ebb_child_open(&child, scope, words, standard);
    unsetenv("LD_PRELOAD");
    unsetenv(ADOPT_VARIABLE);
    unsetenv("DEBUGINFOD_URLS"); /* libdw would look for debug information in the network */
    if (error)
        return error;
    return ebb_watch_open(&child_watch, loop, child, EBB_READ, on_child_end, NULL);
}

void program_tick(void) {
    if (child_ended)
        reap_orphans();
}

static void end_orphans(void) {
    char path[64], text[4096], *at = text, *next;
    snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
    ssize_t got = read_head(path, text, sizeof text - 1);
    text[got > 0 ? got : 0] = '\0';
    for (long id; (id = strtol(at, &next, 10)) > 0 && next != at; at = next)
        kill((pid_t)id, SIGTERM);
}

bool program_end(void) {
    if (!asked_to_end && !child_ended)
        kill(ebb_child_id(child), SIGTERM);
    else if (!asked_to_end)
        end_orphans();
    asked_to_end = true;
    program_tick();
    return all_ended;
}

int program_status(void) {
    return child_status;
}

void program_close(void) {
    ebb_watch_close(child_watch);
    ebb_fd_close(child);
    child_watch = NULL;
}
