/* unix -- listening at a path.
 *
 * A unix socket leaves its file behind when its program dies, and bind refuses a path that exists.
 * So a socket file at which nobody answers is removed first; anything else at that path is
 * somebody's and stays.
 *
 * 1. Nothing but a socket at which nobody answers is ever removed.
 * 2. The file never has more permissions than asked for, not even for a moment.
 * 3. As root, no link is followed that another user could have made: everything but the question
 * whether somebody answers is done from a descriptor on the folder. bind takes a path only, so
 * where the way to the folder can be changed by others it goes by /proc. */
#include "telemetry/events.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "address.h"
#include "base/open.h"
#include "res/res_internal.h"

#define WHAT_TEXT 160

/* Where the socket file is, or is to be. */
struct place {
    const char *path;
    int folder;
    bool way_exposed;
    char word[PATH_MAX];
};

static enum ebb_err refused(int error, const char *path) {
    char what[WHAT_TEXT];
    snprintf(what, sizeof what, "listen on %s", path);
    if (error == ELOOP && ebbi_acts_as_root())
        return ebb_err_set(EBB_ERR_SYSTEM,
                           "cannot %s as root: a symbolic link in a folder that other users may "
                           "write to is not followed; give the path that it leads to",
                           what);
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

static enum ebb_err clear_place(const struct place *place, const struct sockaddr_un *address) {
    const char *path = place->path;
    struct stat is;
    if (fstatat(place->folder, place->word, &is, AT_SYMLINK_NOFOLLOW) != 0)
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
    if (error == ECONNREFUSED && unlinkat(place->folder, place->word, 0) != 0 && errno != ENOENT)
        return refused(errno, path);
    return EBB_OK;
}

static bool bind_at(int fd, const struct place *place, const struct sockaddr_un *address) {
    struct sockaddr_un by_proc = {.sun_family = AF_UNIX};
    if (!place->way_exposed)
        return bind(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    int length = snprintf(by_proc.sun_path, sizeof by_proc.sun_path, "/proc/self/fd/%d/%s",
                          place->folder, place->word);
    errno = ENAMETOOLONG;
    return length < (int)sizeof by_proc.sun_path &&
           bind(fd, (const struct sockaddr *)&by_proc, sizeof by_proc) == 0;
}

/* The file is made with the mode that the socket has before bind, less the umask; the change of
 * mode then adds what the umask took. */
static bool listen_on_file(int fd, const struct place *place, unsigned mode, int backlog,
                           struct stat *made) {
    int links = ebbi_acts_as_root() ? AT_SYMLINK_NOFOLLOW : 0;
    return fchmodat(place->folder, place->word, (mode_t)mode, links) == 0 &&
           listen(fd, backlog) == 0 &&
           fstatat(place->folder, place->word, made, AT_SYMLINK_NOFOLLOW) == 0;
}

static enum ebb_err listen_at(const struct place *place, unsigned mode, int backlog, int *out,
                              struct ebbi_unix_file *file) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    struct stat made;
    memcpy(address.sun_path, place->path, strlen(place->path) + 1);
    enum ebb_err err = clear_place(place, &address);
    if (err != EBB_OK)
        return err;
    int fd = socket_open();
    if (fd < 0)
        return refused(errno, place->path);
    bool is_made = fchmod(fd, (mode_t)mode) == 0 && bind_at(fd, place, &address);
    if (is_made && listen_on_file(fd, place, mode, backlog, &made)) {
        ebbi_absolute(place->path, file->path, sizeof file->path);
        file->device = made.st_dev;
        file->inode = made.st_ino;
        *out = fd;
        return EBB_OK;
    }
    int error = errno;
    if (is_made)
        unlinkat(place->folder, place->word, 0);
    close(fd);
    return refused(error, place->path);
}

enum ebb_err ebbi_unix_listen(const char *path, unsigned mode, int backlog, int *out,
                              struct ebbi_unix_file *file) {
    size_t size = sizeof((struct sockaddr_un *)NULL)->sun_path;
    struct place place = {.path = path};
    if (path[0] == '\0' || strlen(path) >= size)
        return ebb_err_set(EBB_ERR_USAGE,
                           "cannot listen on \"%s\": a socket's path has 1 to %zu bytes", path,
                           size - 1);
    place.folder = ebbi_open_folder(path, place.word, &place.way_exposed);
    if (place.folder < 0)
        return refused(errno, path);
    enum ebb_err err = listen_at(&place, mode, backlog, out, file);
    close(place.folder);
    return err;
}

void ebbi_unix_file_remove(struct ebbi_unix_file *file) {
    struct place place = {.path = file->path};
    struct stat is;
    if (file->path[0] == '\0')
        return;
    place.folder = ebbi_open_folder(file->path, place.word, &place.way_exposed);
    if (place.folder >= 0 && fstatat(place.folder, place.word, &is, AT_SYMLINK_NOFOLLOW) == 0 &&
        is.st_dev == file->device && is.st_ino == file->inode &&
        unlinkat(place.folder, place.word, 0) != 0)
        ebb_log_event(socket_file_stays, file->path, strerror(errno));
    if (place.folder >= 0)
        close(place.folder);
    file->path[0] = '\0';
}
