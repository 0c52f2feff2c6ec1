/* unix -- listening at a path.
 *
 * A unix socket leaves its file behind when its program dies, and bind refuses a path that exists.
 * So a socket file at which nobody answers is removed first; anything else at that path is
 * somebody's and stays.
 *
 * 1. Nothing but a socket at which nobody answers is ever removed.
 * 2. The file never has more permissions than asked for, not even for a moment. */
#include "tell/events.h"
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"
#include "res/res_internal.h"

#define WHAT_TEXT 160

static enum ebb_err refused(int error, const char *path) {
    char what[WHAT_TEXT];
    snprintf(what, sizeof what, "listen on %s", path);
    return ebbi_fd_refused(error, what);
}

static int socket_open(void) {
    int type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
    int fd = socket(AF_UNIX, type, 0);
    if (fd < 0 && ebbi_fd_make_room(errno))
        fd = socket(AF_UNIX, type, 0);
    return fd;
}

/* 0 when somebody answers at the socket file, else the errno of the attempt. */
static int knock(const struct sockaddr_un *address) {
    int fd = socket_open();
    if (fd < 0)
        return errno;
    int error = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 ? 0 : errno;
    close(fd);
    return error == EAGAIN ? 0 : error; /* EAGAIN: alive, with a full queue */
}

static enum ebb_err clear_path(const struct sockaddr_un *address) {
    const char *path = address->sun_path;
    struct stat is;
    if (lstat(path, &is) != 0)
        return errno == ENOENT ? EBB_OK : refused(errno, path);
    if (!S_ISSOCK(is.st_mode))
        return ebb_err_set(EBB_ERR_BUSY,
                           "cannot listen on %s: what is there is not a socket; move it away or "
                           "choose another path",
                           path);
    int error = knock(address);
    if (error == 0)
        return ebb_err_set(EBB_ERR_BUSY,
                           "cannot listen on %s: in use by another program; choose another path "
                           "or stop it",
                           path);
    if (error != ECONNREFUSED && error != ENOENT)
        return refused(error, path);
    if (error == ECONNREFUSED && unlink(path) != 0 && errno != ENOENT)
        return refused(errno, path);
    return EBB_OK;
}

/* The mode given before bind is the one the file is made with, less the umask; chmod then adds what
 * the umask took. */
static bool bind_and_listen(int fd, const struct sockaddr_un *address, unsigned mode, int backlog) {
    return fchmod(fd, (mode_t)mode) == 0 &&
           bind(fd, (const struct sockaddr *)address, sizeof *address) == 0 &&
           chmod(address->sun_path, (mode_t)mode) == 0 && listen(fd, backlog) == 0;
}

enum ebb_err ebbi_unix_listen(const char *path, unsigned mode, int backlog, int *out,
                              struct ebbi_unix_file *file) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (path[0] == '\0' || strlen(path) >= sizeof address.sun_path)
        return ebb_err_set(EBB_ERR_USAGE,
                           "cannot listen on \"%s\": a socket's path has 1 to %zu bytes", path,
                           sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    enum ebb_err err = clear_path(&address);
    if (err != EBB_OK)
        return err;
    int fd = socket_open();
    if (fd < 0)
        return refused(errno, path);
    struct stat made;
    if (bind_and_listen(fd, &address, mode, backlog) && lstat(path, &made) == 0) {
        memcpy(file->path, address.sun_path, sizeof file->path);
        file->device = made.st_dev;
        file->inode = made.st_ino;
        *out = fd;
        return EBB_OK;
    }
    int error = errno;
    close(fd);
    return refused(error, path);
}

void ebbi_unix_file_remove(struct ebbi_unix_file *file) {
    struct stat is;
    if (file->path[0] == '\0')
        return;
    if (lstat(file->path, &is) == 0 && is.st_dev == file->device && is.st_ino == file->inode &&
        unlink(file->path) != 0)
        ebb_tell(socket_file_stays, file->path, strerror(errno));
    file->path[0] = '\0';
}
