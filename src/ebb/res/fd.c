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
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <ebb/assert.h>
#include <ebb/collector.h>

#include "base/open.h"
#include "res_internal.h"
#include "table.h"

#define CALL_SITE ((uintptr_t)__builtin_return_address(0))

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
    ebb_assert(fd >= 0, "descriptor %d", fd);
    struct ebbi_resource resource = {.kind = kind, .fd = fd};
    return ebbi_resource_keep(handle, scope, &resource, note, opened_at);
}

__attribute__((noinline)) enum ebb_err ebb_fd_adopt(ebb_fd *handle, struct ebb_scope *scope,
                                                    enum ebb_resource_class kind, int fd,
                                                    const char *note) {
    return ebbi_fd_adopt_at(handle, scope, kind, fd, note, CALL_SITE);
}

static enum ebb_err open_refused(int error, const char *path, int flags) {
    char what[300];
    snprintf(what, sizeof what, "open %s", path);
    if (error == ENXIO && (flags & O_NONBLOCK))
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot %s: nobody reads this pipe", what);
    if (error == ELOOP && ebbi_acts_as_root())
        return ebb_err_set(EBB_ERR_SYSTEM,
                           "cannot %s as root: a symbolic link in a folder that other users may "
                           "write to is not followed; give the path that it leads to",
                           what);
    if (error == EMLINK)
        return ebb_err_set(EBB_ERR_SYSTEM,
                           "cannot %s as root: the file has a second name, and other users may "
                           "write to its folder; remove it, or give another path",
                           what);
    return ebbi_fd_refused(error, what);
}

__attribute__((noinline)) enum ebb_err ebb_fd_open(ebb_fd *handle, struct ebb_scope *scope,
                                                   const char *path, int flags, unsigned mode) {
    int fd = ebbi_open(path, flags, (mode_t)mode);
    if (fd < 0 && ebbi_fd_make_room(errno))
        fd = ebbi_open(path, flags, (mode_t)mode);
    if (fd >= 0)
        return ebbi_fd_adopt_at(handle, scope, EBB_RESOURCE_file, fd, path, CALL_SITE);
    *handle = EBB_FD_NONE;
    return open_refused(errno, path, flags);
}

/* One try, and one more when there was room to be made. */
#define WITH_ROOM(fd, call)                                                                        \
    do {                                                                                           \
        (fd) = (call);                                                                             \
        if ((fd) < 0 && ebbi_fd_make_room(errno))                                                  \
            (fd) = (call);                                                                         \
    } while (0)

static enum ebb_err keep_or_refuse(ebb_fd *handle, struct ebb_scope *scope,
                                   enum ebb_resource_class kind, int fd, const char *note,
                                   const char *what, uintptr_t opened_at) {
    if (fd >= 0)
        return ebbi_fd_adopt_at(handle, scope, kind, fd, note, opened_at);
    *handle = EBB_FD_NONE;
    return ebbi_fd_refused(errno, what);
}

__attribute__((noinline)) enum ebb_err ebb_fd_eventfd(ebb_fd *handle, struct ebb_scope *scope,
                                                      const char *note) {
    int fd;
    WITH_ROOM(fd, eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC));
    return keep_or_refuse(handle, scope, EBB_RESOURCE_eventfd, fd, note, "make an eventfd",
                          CALL_SITE);
}

__attribute__((noinline)) enum ebb_err ebb_fd_timerfd(ebb_fd *handle, struct ebb_scope *scope,
                                                      const char *note) {
    int fd;
    WITH_ROOM(fd, timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
    return keep_or_refuse(handle, scope, EBB_RESOURCE_timerfd, fd, note, "make a timer", CALL_SITE);
}

__attribute__((noinline)) enum ebb_err ebb_fd_epoll(ebb_fd *handle, struct ebb_scope *scope,
                                                    const char *note) {
    int fd;
    WITH_ROOM(fd, epoll_create1(EPOLL_CLOEXEC));
    return keep_or_refuse(handle, scope, EBB_RESOURCE_epoll, fd, note, "make an epoll set",
                          CALL_SITE);
}

__attribute__((noinline)) enum ebb_err ebb_fd_socket(ebb_fd *handle, struct ebb_scope *scope,
                                                     int family, int type, const char *note) {
    int fd;
    WITH_ROOM(fd, socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    return keep_or_refuse(handle, scope, EBB_RESOURCE_socket, fd, note, "make a socket", CALL_SITE);
}

/* Room for both is tried together: a pipe with one end is of no use. */
__attribute__((noinline)) enum ebb_err ebb_fd_pipe(ebb_fd ends[2], struct ebb_scope *scope,
                                                   const char *note) {
    int made, fd[2];
    ends[0] = ends[1] = EBB_FD_NONE;
    WITH_ROOM(made, pipe2(fd, O_NONBLOCK | O_CLOEXEC));
    if (made != 0)
        return ebbi_fd_refused(errno, "make a pipe");
    enum ebb_err err = ebbi_fd_adopt_at(&ends[0], scope, EBB_RESOURCE_pipe, fd[0], note, CALL_SITE);
    if (err != EBB_OK) {
        close(fd[1]);
        return err;
    }
    err = ebbi_fd_adopt_at(&ends[1], scope, EBB_RESOURCE_pipe, fd[1], note, CALL_SITE);
    if (err != EBB_OK)
        ebb_fd_close(ends[0]);
    return err;
}

void ebb_fd_note(ebb_fd handle, char *out, size_t size) {
    struct ebbi_resource now;
    snprintf(out, size, "%s", ebbi_table_read(handle, &now) ? now.note : "");
}

bool ebb_fd_give(ebb_fd handle, struct ebb_scope *to) {
    return ebbi_table_move(handle, to);
}
