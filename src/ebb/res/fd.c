/* fd -- descriptors as managed resources: opening, adopting, closing, and what to do when they run
 * out.
 *
 * When the system says EMFILE or ENFILE, some descriptors may only be held by scopes that somebody
 * forgot. A full collection finds those, their finalizers close them, and the call is tried once
 * more. */
#include <ebb/fd.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <ebb/collector.h>
#include <ebb/log.h>

#include "res_internal.h"
#include "table.h"
#include "tell/metrics.h"

#define CALL_SITE ((uintptr_t)__builtin_return_address(0))

const char *ebb_resource_class_name(enum ebb_resource_class kind) {
    static const char *const names[] = {
#define EBB_RESOURCE(id, name, what) name,
#include <ebb/tbl/resources.def>
    };
    return kind < EBB_RESOURCE_CLASSES ? names[kind] : "unknown";
}

bool ebbi_fd_make_room(int error) {
    if (error != EMFILE && error != ENFILE)
        return false;
    ebb_collect_fully(EBB_CAUSE_pressure);
    return true;
}

enum ebb_err ebbi_fd_refused(int error, const char *what) {
    if (error == ENFILE)
        return ebb_err_set(EBB_ERR_LIMIT,
                           "cannot %s: the system has no descriptors left; raise fs.file-max",
                           what);
    if (error != EMFILE)
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot %s: %s", what, strerror(error));
    struct rlimit limit = {0};
    getrlimit(RLIMIT_NOFILE, &limit);
    return ebb_err_set(EBB_ERR_LIMIT,
                       "cannot %s: all %llu descriptors of this process are in use "
                       "(RLIMIT_NOFILE); raise it with `ulimit -n` or LimitNOFILE= of the service",
                       what, (unsigned long long)limit.rlim_cur);
}

enum ebb_err ebbi_fd_adopt_at(ebb_fd *handle, struct ebb_scope *scope, enum ebb_resource_class kind,
                              int fd, const char *note, uintptr_t opened_at) {
    if (ebbi_table_enter(handle, scope, kind, fd, note, opened_at))
        return EBB_OK;
    close(fd);
    *handle = EBB_FD_NONE;
    return ebb_err_set(EBB_ERR_LIMIT, "cannot keep %s %s: the table of resources is full",
                       ebb_resource_class_name(kind), note == NULL ? "" : note);
}

__attribute__((noinline)) enum ebb_err ebb_fd_adopt(ebb_fd *handle, struct ebb_scope *scope,
                                                    enum ebb_resource_class kind, int fd,
                                                    const char *note) {
    return ebbi_fd_adopt_at(handle, scope, kind, fd, note, CALL_SITE);
}

__attribute__((noinline)) enum ebb_err ebb_fd_open(ebb_fd *handle, struct ebb_scope *scope,
                                                   const char *path, int flags, unsigned mode) {
    int fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
    if (fd < 0 && ebbi_fd_make_room(errno))
        fd = open(path, flags | O_CLOEXEC, (mode_t)mode);
    if (fd < 0) {
        char what[300];
        int error = errno;
        *handle = EBB_FD_NONE;
        snprintf(what, sizeof what, "open %s", path);
        return ebbi_fd_refused(error, what);
    }
    return ebbi_fd_adopt_at(handle, scope, EBB_RESOURCE_file, fd, path, CALL_SITE);
}

__attribute__((noinline)) enum ebb_err ebb_fd_eventfd(ebb_fd *handle, struct ebb_scope *scope,
                                                      const char *note) {
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0 && ebbi_fd_make_room(errno))
        fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) {
        *handle = EBB_FD_NONE;
        return ebbi_fd_refused(errno, "make an eventfd");
    }
    return ebbi_fd_adopt_at(handle, scope, EBB_RESOURCE_eventfd, fd, note, CALL_SITE);
}

bool ebb_fd_give(ebb_fd handle, struct ebb_scope *to) {
    return ebbi_table_move(handle, to);
}

void ebbi_resource_close(const struct ebbi_resource *was) {
    /* Linux lets go of the number before it may say EINTR, so trying again could close somebody
     * else's. */
    if (close(was->fd) != 0 && errno == EBADF)
        ebb_log_error("res", "%s %s: descriptor %d was closed behind our back",
                      ebb_resource_class_name(was->kind), was->note, was->fd);
    ebb_count(ebbi_metric_resources_closed[was->kind], 1);
    ebb_gauge_add(ebbi_metric_resources_open[was->kind], -1);
}

void ebb_fd_close(ebb_fd handle) {
    struct ebbi_resource was;
    if (ebbi_table_leave(handle, &was))
        ebbi_resource_close(&was);
}
