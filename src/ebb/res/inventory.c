/* inventory -- descriptors that were here before us.
 *
 * A daemon inherits what its parent left open: a shell's log file, a supervisor's pipe, a socket
 * that the service manager bound for us. What nobody accounts for is a leak that started before
 * main; so it is closed, and named, because the parent may want to know.
 *
 * They are closed before our own are opened, and so before the log is: what they were is kept until
 * it can be told there, in its form.
 *
 * 1. Nothing is closed that the table knows, and nothing of 0-2.
 * 2. /proc is read with the system call: opendir would take memory from libc. */
#include <ebb/inventory.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "res_internal.h"
#include "telemetry/events.h"

#define STACK_BYTES_MIN   (512 << 10)
#define FIRST_HANDED_OVER 3 /* SD_LISTEN_FDS_START */
#define HANDED_OVER_MAX   1024
#define ENTRIES_SIZE      4096
#define WHAT_TEXT         256
#define NAMES_TEXT        1024
#define STRANGERS_TOLD    10 /* a place in the code says no more in a second */

static int handed_over,
    handed_next; /* descriptors FIRST_HANDED_OVER + [handed_next, handed_over) */
static struct {
    int fd;
    char what[WHAT_TEXT];
} strangers[STRANGERS_TOLD];
static size_t strangers_count;
static char handed_names[NAMES_TEXT]; /* $LISTEN_FDNAMES: parted by colons */

static void tell_what(int fd, char *what, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, what, size - 1);
    what[length > 0 ? length : 0] = '\0';
}

size_t ebb_descriptors_each(void (*see)(int fd, const char *what, void *context), void *context) {
    int folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0)
        return 0;
    _Alignas(struct dirent64) char entries[ENTRIES_SIZE];
    size_t seen = 0;
    long length;
    while ((length = syscall(SYS_getdents64, folder, entries, sizeof entries)) > 0)
        for (long at = 0; at < length;) {
            const struct dirent64 *entry = (const struct dirent64 *)(const void *)(entries + at);
            at += entry->d_reclen;
            int fd = (int)strtol(entry->d_name, NULL, 10);
            if (entry->d_name[0] == '.' || fd == folder)
                continue;
            char what[WHAT_TEXT];
            tell_what(fd, what, sizeof what);
            if (see != NULL)
                see(fd, what, context);
            seen++;
        }
    close(folder);
    return seen;
}

/* --- what the parent left open --- */

/* open takes the lowest free number, which is the one that was looked at. Where there is no
 * /dev/null, any descriptor will do that nothing can be written to. */
void ebb_streams_take(void) {
    for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++)
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", O_RDWR) < 0)
            (void)open("/", O_PATH);
}

static bool is_handed_over(int fd) {
    return fd >= FIRST_HANDED_OVER && fd < FIRST_HANDED_OVER + handed_over;
}

static void close_stranger(int fd, const char *what, void *context) {
    size_t *closed = context;
    if (fd <= STDERR_FILENO)
        return;
    if (is_handed_over(fd)) {
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        return;
    }
    close(fd);
    ++*closed;
    if (strangers_count == STRANGERS_TOLD)
        return;
    strangers[strangers_count].fd = fd;
    snprintf(strangers[strangers_count++].what, WHAT_TEXT, "%s", what);
}

static void read_handed_over(void) {
    const char *process = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS"),
               *names = getenv("LISTEN_FDNAMES");
    if (process != NULL && count != NULL && strtol(process, NULL, 10) == getpid()) {
        long number = strtol(count, NULL, 10);
        handed_over = number > 0 && number <= HANDED_OVER_MAX ? (int)number : 0;
        if (names != NULL)
            strncat(handed_names, names, sizeof handed_names - 1);
    }
    unsetenv("LISTEN_PID");
    unsetenv("LISTEN_FDS");
    unsetenv("LISTEN_FDNAMES");
}

size_t ebb_inherited_take(void) {
    size_t closed = 0;
    read_handed_over();
    ebb_descriptors_each(close_stranger, &closed);
    return closed;
}

void ebb_inherited_tell(void) {
    for (size_t i = 0; i < strangers_count; i++)
        ebb_log_event(inherited_closed, strangers[i].fd, strangers[i].what);
    strangers_count = 0;
}

int ebb_inherited_count(void) {
    return handed_over - handed_next;
}

/* The index-th of the names, "" when there is none. */
static void name_of(int index, char *name, size_t size) {
    const char *at = handed_names;
    for (int i = 0; i < index && at != NULL; i++)
        at = (at = strchr(at, ':')) != NULL ? at + 1 : NULL;
    snprintf(name, size, "%.*s", at != NULL ? (int)strcspn(at, ":") : 0, at != NULL ? at : "");
}

enum ebb_err ebb_inherited_adopt(ebb_fd *handle, struct ebb_scope *scope) {
    *handle = EBB_FD_NONE;
    if (handed_next == handed_over)
        return ebb_err_set(EBB_ERR_STALE, "the service manager handed over no further socket");
    char name[WHAT_TEXT];
    name_of(handed_next, name, sizeof name);
    int fd = FIRST_HANDED_OVER + handed_next++;
    if (fcntl(fd, F_GETFD) < 0)
        return ebb_err_set(EBB_ERR_STALE, "LISTEN_FDS counts descriptor %d, which is not open", fd);
    return ebb_fd_adopt(handle, scope, EBB_RESOURCE_listener, fd,
                        name[0] != '\0' ? name : "from the service manager");
}

/* --- how many there may be --- */

/* Sets the soft limit to count, and the hard one if it is lower. */
static bool set_limit(struct rlimit limit, uint64_t count) {
    limit.rlim_cur = count;
    if (limit.rlim_max < count)
        limit.rlim_max = count;
    return setrlimit(RLIMIT_NOFILE, &limit) == 0;
}

/* Makes it count, where that is allowed. */
static bool raise_limit(struct rlimit *limit, uint64_t count, const char *who) {
    if (getrlimit(RLIMIT_NOFILE, limit) != 0 || limit->rlim_cur >= count)
        return true;
    if (!set_limit(*limit, count))
        return false;
    ebb_log_event(descriptors_raised, (uint64_t)limit->rlim_cur, count, who);
    return true;
}

uint64_t ebb_descriptors_reserve_most(uint64_t count, const char *who) {
    struct rlimit limit;
    if (raise_limit(&limit, count, who))
        return count;
    uint64_t hard = limit.rlim_max < count ? limit.rlim_max : count;
    return set_limit(limit, hard) ? hard : limit.rlim_cur;
}

enum ebb_err ebb_descriptors_reserve(uint64_t count, const char *who) {
    struct rlimit limit;
    if (raise_limit(&limit, count, who))
        return EBB_OK;
    return ebb_err_set(
        EBB_ERR_LIMIT,
        "%s needs %llu descriptors, and the system allows %llu: raise `ulimit -n` or "
        "LimitNOFILE= of the service, or ask for less",
        who, (unsigned long long)count, (unsigned long long)limit.rlim_max);
}

enum ebb_err ebb_stack_reserve(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_STACK, &limit) != 0 || limit.rlim_cur >= STACK_BYTES_MIN)
        return EBB_OK;
    rlim_t had = limit.rlim_cur;
    limit.rlim_cur = STACK_BYTES_MIN;
    if (limit.rlim_max < STACK_BYTES_MIN)
        limit.rlim_max = STACK_BYTES_MIN;
    if (setrlimit(RLIMIT_STACK, &limit) == 0)
        return EBB_OK;
    return ebb_err_set(
        EBB_ERR_LIMIT,
        "the stack may be %llu KiB, and the program needs %d KiB: raise ulimit -s or "
        "LimitSTACK= of the service",
        (unsigned long long)had / 1024, STACK_BYTES_MIN >> 10);
}
