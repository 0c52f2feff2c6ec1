/* close -- how each class of resource ends.
 *
 * A row of tbl/resources.def names one of the functions below. None of them can fail in a way that
 * anybody could act on, and none allocates: what is needed was kept when the resource was opened.
 *
 * 1. close(2) is never tried again: Linux lets go of the number before it may say EINTR, so trying
 * again could close somebody else's. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ebb/probe.h>
#include <ebb/thread.h>

#include "table.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"

#define PATH_TEXT 4096

static const char *const names[] = {
#define EBB_RESOURCE(id, name, ...) name,
#include <ebb/tbl/resources.def>
};

const char *ebb_resource_class_name(enum ebb_resource_class kind) {
    return kind < EBB_RESOURCE_CLASSES ? names[kind] : "unknown";
}

static void closer_nothing(const struct ebbi_resource *was) {
    (void)was;
}

static void closer_descriptor(const struct ebbi_resource *was) {
    if (close(was->fd) != 0 && errno == EBADF)
        ebb_log_event(descriptor_lost, ebb_resource_class_name(was->kind), was->note, was->fd);
}

static void closer_mapping(const struct ebbi_resource *was) {
    munmap((void *)(uintptr_t)was->at, was->size);
}

static void closer_locked(const struct ebbi_resource *was) {
    explicit_bzero((void *)(uintptr_t)was->at, was->size);
    closer_mapping(was);
}

/* The kernel knows the file's name now, also when it was renamed since; it is removed only while it
 * is still this very file. */
static void closer_temporary(const struct ebbi_resource *was) {
    char link[64], path[PATH_TEXT];
    struct stat ours, there;
    snprintf(link, sizeof link, "/proc/self/fd/%d", was->fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    path[length > 0 ? length : 0] = '\0';
    if (length > 0 && fstat(was->fd, &ours) == 0 && lstat(path, &there) == 0 &&
        ours.st_ino == there.st_ino && ours.st_dev == there.st_dev && unlink(path) != 0)
        ebb_log_event(temporary_file_stays, path, strerror(errno));
    closer_descriptor(was);
}

static void closer_child(const struct ebbi_resource *was) {
    siginfo_t ended;
    pidfd_send_signal(was->fd, SIGKILL, NULL, 0);
    while (waitid(P_PIDFD, (id_t)was->fd, &ended, WEXITED) != 0 && errno == EINTR)
        ;
    closer_descriptor(was);
}

static void closer_thread(const struct ebbi_resource *was) {
    ebb_thread_join((struct ebb_thread *)(uintptr_t)was->at);
}

static void (*const closers[])(const struct ebbi_resource *was) = {
#define EBB_RESOURCE(id, name, how, what) closer_##how,
#include <ebb/tbl/resources.def>
};

void ebbi_resource_close(const struct ebbi_resource *was) {
    closers[was->kind](was);
    EBB_PROBE2(resource_close, was->kind, was->fd);
    ebb_count(ebbi_metric_resources_closed[was->kind], 1);
    ebb_gauge_add(ebbi_metric_resources_open[was->kind], -1);
}

void ebb_fd_close(ebb_fd handle) {
    struct ebbi_resource was;
    if (ebbi_table_leave(handle, &was) == EBBI_LEFT)
        ebbi_resource_close(&was);
}

enum ebb_err ebbi_resource_keep(ebb_fd *handle, struct ebb_scope *scope,
                                struct ebbi_resource *resource, const char *note,
                                uintptr_t opened_at) {
    resource->opened_at = opened_at;
    resource->note[0] = '\0';
    if (note != NULL)
        strncat(resource->note, note, sizeof resource->note - 1);
    if (ebbi_table_enter(handle, scope, resource))
        return EBB_OK;
    closers[resource->kind](resource);
    *handle = EBB_FD_NONE;
    return ebb_err_set(EBB_ERR_LIMIT, "cannot keep %s %s: the table of resources is full",
                       ebb_resource_class_name(resource->kind), resource->note);
}
