/* open -- opening a path as root without being led elsewhere.
 *
 * Root may open everything. So where a daemon that starts as root is to write a log into a folder
 * of its service user, that user can put a symbolic link there and have /etc/shadow appended to.
 * The kernel's fs.protected_symlinks concerns only sticky folders such as /tmp. So as root a path
 * is opened without following anything (openat2), and where there are links it is walked word by
 * word, with a descriptor on each folder, and they are resolved here.
 *
 * 1. A folder is exposed when it is not root's, or others than root may write to it, or it stands
 * below such a one. Of an exposed folder nothing is followed: ELOOP.
 * 2. There a regular file that has a second name is refused too (EMLINK): the other name may be
 * what only root may write. Nothing is truncated before that is known.
 * 3. A link in a folder that is root's own is followed: root made it (/var/run, /dev/stdout). Those
 * of /proc that lead to what has no path are followed by the kernel, as the last word.
 * 4. As anybody else nothing of this is needed: what the user may not open is not opened. */
#include "open.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <string.h>
#include <sys/fsuid.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#define LINKS_MAX 40 /* the kernel's */

struct walk {
    int folder; /* O_PATH */
    bool careful, exposed;
    bool way_exposed; /* a folder above this one is */
    int links;
    char word[PATH_MAX];
    char rest[PATH_MAX]; /* what is still to be walked */
};

bool ebbi_acts_as_root(void) {
    return setfsuid((uid_t)-1) == 0; /* an id that cannot be: only tells the present one */
}

/* Makes folder the one to go on from. */
static void enter(struct walk *walk, int folder) {
    struct stat is;
    if (walk->folder >= 0)
        close(walk->folder);
    walk->folder = folder;
    walk->way_exposed = walk->exposed;
    if (walk->careful && (fstat(folder, &is) != 0 || is.st_uid != 0 || (is.st_mode & S_IWOTH) ||
                          ((is.st_mode & S_IWGRP) && is.st_gid != 0)))
        walk->exposed = true;
}

/* Puts path in front of what is left. False: that is too long, or leads nowhere. */
static bool begin(struct walk *walk, const char *path) {
    char after[PATH_MAX];
    memcpy(after, walk->rest, sizeof(after));
    int length =
        snprintf(walk->rest, sizeof(walk->rest), "%s%s%s", path, after[0] ? "/" : "", after);
    if (path[0] == '\0' || length >= (int)sizeof(walk->rest)) {
        errno = path[0] == '\0' ? ENOENT : ENAMETOOLONG;
        return false;
    }
    if (path[0] != '/' && walk->folder >= 0)
        return true;
    int start = open(path[0] == '/' ? "/" : ".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (start < 0)
        return false;
    enter(walk, start);
    return true;
}

/* Cuts the next word off the rest, "." where there is none. True: it is the last one. */
static bool next_word(struct walk *walk) {
    const char *at = walk->rest + strspn(walk->rest, "/");
    size_t length = strcspn(at, "/"), more = strspn(at + length, "/");
    snprintf(walk->word, sizeof(walk->word), "%.*s", length ? (int)length : 1, length ? at : ".");
    bool last = at[length] == '\0';
    if (!last && at[length + more] == '\0') /* "folder/" */
        more--;
    memmove(walk->rest, at + length + more, strlen(at + length + more) + 1);
    return last;
}

/* The word is a link, now open: goes on where it leads. */
static bool follow(struct walk *walk, int link) {
    char target[PATH_MAX];
    ssize_t length = readlinkat(link, "", target, sizeof(target) - 1);
    if (walk->exposed || ++walk->links > LINKS_MAX) {
        errno = ELOOP;
        return false;
    }
    target[length > 0 ? length : 0] = '\0';
    return begin(walk, target);
}

/* One that the kernel has to follow, see 3. */
static bool is_of_proc(int fd) {
    struct statfs system;
    return fstatfs(fd, &system) == 0 && system.f_type == PROC_SUPER_MAGIC;
}

/* Up to the folder of the last word. follows: also when that is a link. */
static bool walk_to_last(struct walk *walk, const char *path, bool follows) {
    struct stat is;
    for (bool ok = begin(walk, path); ok;) {
        bool last = next_word(walk);
        if (last && !follows)
            return true;
        int next = openat(walk->folder, walk->word, O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (next < 0)
            return last && errno == ENOENT; /* to be made */
        if (fstat(next, &is) != 0 || (last && !S_ISLNK(is.st_mode)) ||
            (last && !walk->exposed && is_of_proc(next))) {
            close(next);
            return last;
        }
        if (S_ISLNK(is.st_mode)) {
            ok = follow(walk, next);
            int error = errno;
            close(next);
            errno = error;
        } else {
            enter(walk, next); /* what is no folder ends the next step */
        }
    }
    return false;
}

static void walk_end(struct walk *walk) {
    int error = errno;
    if (walk->folder >= 0)
        close(walk->folder);
    errno = error;
}

/* See 2. Cuts the file where that was asked for; otherwise closes it. */
static int check_opened(int fd, int flags, bool may_have_names) {
    struct stat is;
    if (fd < 0)
        return fd;
    int error = fstat(fd, &is) != 0 ? errno : 0;
    bool regular = S_ISREG(is.st_mode);
    if (error == 0 && regular && is.st_nlink > 1 && !may_have_names)
        error = EMLINK;
    if (error == 0 && regular && (flags & O_TRUNC) && ftruncate(fd, 0) != 0)
        error = errno;
    if (error == 0)
        return fd;
    close(fd);
    errno = error;
    return -1;
}

/* Of a path without any link. */
static int open_directly(const char *path, int flags, mode_t mode) {
    struct open_how how = {.flags = (uint64_t)(flags & ~O_TRUNC),
                           .mode = flags & O_CREAT ? mode : 0,
                           .resolve = RESOLVE_NO_SYMLINKS};
    return check_opened((int)syscall(SYS_openat2, AT_FDCWD, path, &how, sizeof(how)), flags, false);
}

static int open_walking(const char *path, int flags, mode_t mode) {
    struct walk walk = {.folder = -1, .careful = true};
    bool follows = !(flags & O_NOFOLLOW) && (flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL);
    int fd = -1;
    if (walk_to_last(&walk, path, follows))
        fd = check_opened(openat(walk.folder, walk.word,
                                 (flags & ~O_TRUNC) | (walk.exposed ? O_NOFOLLOW : 0), mode),
                          flags, !walk.exposed);
    walk_end(&walk);
    return fd;
}

int ebbi_open(const char *path, int flags, mode_t mode) {
    flags |= O_CLOEXEC;
    if (!ebbi_acts_as_root())
        return open(path, flags, mode);
    int fd = open_directly(path, flags, mode);
    bool walks = errno == ELOOP || errno == EMLINK || errno == ENOSYS || errno == EPERM;
    return fd < 0 && walks ? open_walking(path, flags, mode) : fd;
}

void ebbi_absolute(const char *path, char *out, size_t size) {
    char here[PATH_MAX];
    if (path[0] == '/' || getcwd(here, sizeof(here)) == NULL)
        snprintf(out, size, "%s", path);
    else if (strcmp(path, ".") == 0)
        snprintf(out, size, "%s", here);
    else
        snprintf(out, size, "%s/%s", strcmp(here, "/") == 0 ? "" : here, path);
}

FILE *ebbi_open_stream(const char *path) {
    int fd = ebbi_open(path, O_RDONLY, 0);
    FILE *stream = fd >= 0 ? fdopen(fd, "r") : NULL;
    if (fd >= 0 && stream == NULL)
        close(fd);
    return stream;
}

int ebbi_open_folder(const char *path, char *word, bool *way_exposed) {
    struct walk walk = {.folder = -1, .careful = ebbi_acts_as_root()};
    if (!walk_to_last(&walk, path, false)) {
        walk_end(&walk);
        return -1;
    }
    memcpy(word, walk.word, sizeof(walk.word));
    *way_exposed = walk.way_exposed;
    return walk.folder;
}
