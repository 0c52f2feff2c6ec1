/* process -- what the kernel says of this process, read from /proc into the stack. Zero where it
 * says nothing. */
#include "metrics.h"

#include <ebb/clock.h>
#include <dirent.h>
#include <stdbool.h>
#include <time.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define PROC_TEXT_MAX       4096
#define STAT_FIELDS_TO_TIME 19 /* from the one behind the name's bracket to starttime */

/* Reads the start of a file in /proc as text; false when there is none. */
static bool read_text(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, text, size - 1);
    close(fd);
    text[length > 0 ? length : 0] = 0;
    return length > 0;
}

/* Bytes that statm says in its field of this number, from 0. */
static uint64_t read_statm(int field) {
    char text[PROC_TEXT_MAX];
    if (!read_text("/proc/self/statm", text, sizeof(text)))
        return 0;
    const char *at = text;
    for (int i = 0; i < field && at; i++)
        at = (at = strchr(at, ' ')) ? at + 1 : NULL;
    return at ? strtoull(at, NULL, 10) * (uint64_t)sysconf(_SC_PAGESIZE) : 0;
}

uint64_t ebbi_process_resident(void) {
    return read_statm(1);
}

uint64_t ebbi_process_data(void) {
    return read_statm(5);
}

/* Reads the folder with the system call, because opendir would take memory from libc. */
uint64_t ebbi_process_open_fds(void) {
    int fd = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return 0;
    _Alignas(struct dirent64) char entries[PROC_TEXT_MAX];
    uint64_t count = 0;
    long length;
    while ((length = syscall(SYS_getdents64, fd, entries, sizeof(entries))) > 0)
        for (long at = 0; at < length;) {
            const struct dirent64 *entry = (const struct dirent64 *)(const void *)(entries + at);
            count += entry->d_name[0] != '.';
            at += entry->d_reclen;
        }
    close(fd);
    return count > 0 ? count - 1 : 0; /* without the one that was opened to count */
}

/* Nanoseconds between the machine's start and this process's. */
static uint64_t start_after_boot_ns(void) {
    char text[PROC_TEXT_MAX];
    if (!read_text("/proc/self/stat", text, sizeof(text)))
        return 0;
    const char *field = strrchr(text, ')'); /* the name may hold blanks and brackets */
    field = field ? strchr(field, ' ') : NULL;
    for (int i = 0; field && i < STAT_FIELDS_TO_TIME; i++)
        field = strchr(field + 1, ' ');
    return field ? strtoull(field, NULL, 10) * (EBB_NS_PER_SECOND / (uint64_t)sysconf(_SC_CLK_TCK))
                 : 0;
}

uint64_t ebbi_process_start_time_ns(void) {
    struct timespec since_boot = {0, 0};
    clock_gettime(CLOCK_BOOTTIME, &since_boot);
    uint64_t boot_ns =
        (uint64_t)since_boot.tv_sec * EBB_NS_PER_SECOND + (uint64_t)since_boot.tv_nsec;
    /* Whole seconds, so that a corrected clock does not make it flicker. */
    uint64_t at_ns = ebb_clock_unix_ns() - boot_ns + start_after_boot_ns();
    return at_ns / EBB_NS_PER_SECOND * EBB_NS_PER_SECOND;
}

void ebbi_thread_name(int thread, char *name, size_t size) {
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/task/%d/comm", thread);
    if (!read_text(path, name, size))
        snprintf(name, size, "thread %d", thread);
    name[strcspn(name, "\n")] = 0;
}
