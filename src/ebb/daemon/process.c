/* process -- what a daemon does with its own process.
 *
 * 1. The fork to the background comes before the collector and before any thread: neither lives on
 * in a child that only copied the forking thread. So nothing here allocates until then.
 * 2. The parent waits at a pipe. A byte means ready; the end of the pipe without one means that the
 * child is gone, and its exit status becomes the parent's. The child's stderr stays the caller's
 * until then, so its sentence is seen.
 * 3. A pid file is ours while we hold its lock; a file that a crash left behind has no lock and is
 * taken over. */
#include "process.h"

#include <ebb/daemon.h>

#include "base/open.h"
#include "telemetry/events.h"

#include <ebb/inventory.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/fsuid.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sysexits.h>
#include <unistd.h>

#define PASSWD_ROOM 4096
#define ERROR_TEXT  256
#define GROUPS_MAX  1024            /* of one user */
#define GC_LOG      "/memfd:gc-log" /* of the profile's find_leak: it stays as long as the collector */

static int ready_pipe = -1; /* the child's end */

static void remember(int fd, const char *what, void *context) {
    (void)what;
    struct ebbi_strangers *strangers = context;
    if (fd < EBBI_STRANGERS_MAX)
        strangers->open[fd / 64] |= UINT64_C(1) << fd % 64;
}

void ebbi_strangers_remember(struct ebbi_strangers *strangers) {
    ebb_descriptors_each(remember, strangers);
}

struct newcomers {
    const struct ebbi_strangers *strangers;
    size_t count;
};

static void compare(const struct ebb_resource_view *view, void *context) {
    int *fd = context;
    if (view->fd == *fd)
        *fd = -1;
}

/* Under the care of a scope; then the table tells of it. */
static bool is_owned(int fd) {
    int wanted = fd;
    ebb_resources_each(compare, &wanted);
    return wanted < 0;
}

static void tell_newcomer(int fd, const char *what, void *context) {
    struct newcomers *found = context;
    if (fd <= STDERR_FILENO ||
        (fd < EBBI_STRANGERS_MAX && (found->strangers->open[fd / 64] >> fd % 64 & 1)) ||
        strncmp(what, GC_LOG, strlen(GC_LOG)) == 0 || is_owned(fd))
        return;
    found->count++;
    ebb_log_event(descriptor_unowned, fd, what);
}

size_t ebbi_strangers_new(const struct ebbi_strangers *strangers) {
    struct newcomers found = {strangers, 0};
    ebb_descriptors_each(tell_newcomer, &found);
    return found.count;
}

static int wait_for_child(pid_t child, int from_child) {
    char byte;
    ssize_t got;
    while ((got = read(from_child, &byte, 1)) < 0 && errno == EINTR)
        ;
    close(from_child);
    if (got == 1)
        return EXIT_SUCCESS;
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR)
        ;
    return WIFEXITED(status) && WEXITSTATUS(status) != 0 ? WEXITSTATUS(status) : EX_OSERR;
}

bool ebbi_background_fork(int *status) {
    int ends[2];
    pid_t child = -1;
    if (pipe2(ends, O_CLOEXEC) == 0)
        child = fork();
    if (child < 0) {
        fprintf(stderr, "cannot go to the background: %s\n", strerror(errno));
        *status = EX_OSERR;
        return true;
    }
    if (child > 0) {
        close(ends[1]);
        *status = wait_for_child(child, ends[0]);
        return true;
    }
    close(ends[0]);
    ready_pipe = ends[1];
    setsid();
    return false;
}

void ebbi_background_ready(bool keeps_folder) {
    if (ready_pipe < 0)
        return;
    if (!keeps_folder && chdir("/") != 0)
        ebb_log_event(folder_kept, strerror(errno));
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = STDIN_FILENO; null >= 0 && fd <= STDERR_FILENO; fd++)
        dup2(null, fd);
    if (null > STDERR_FILENO)
        close(null);
    ssize_t ignored = write(ready_pipe, "r", 1); /* a parent that is gone need not hear it */
    (void)ignored;
    close(ready_pipe);
    ready_pipe = -1;
}

/* Whether the path still leads to this very file: another may have been put there since. */
static bool is_at(int fd, const char *path) {
    struct stat ours, there;
    return fstat(fd, &ours) == 0 && stat(path, &there) == 0 && ours.st_ino == there.st_ino &&
           ours.st_dev == there.st_dev;
}

static bool is_regular(int fd) {
    struct stat is;
    return fstat(fd, &is) == 0 && S_ISREG(is.st_mode);
}

/* The sentence for a pid file that another process has locked. */
static enum ebb_err held_by_another(int fd, const char *path) {
    char pid[32] = "";
    ssize_t length = pread(fd, pid, sizeof(pid) - 1, 0);
    pid[length > 0 ? strspn(pid, "0123456789") : 0] = 0;
    return ebb_err_set(EBB_ERR_BUSY, "pid file %s is held by a running process (pid %s)", path,
                       pid[0] ? pid : "unknown");
}

/* In the user's folder (/run/memcached) root without CAP_DAC_OVERRIDE may write no more than
 * anybody, and in root's (/run) the user may not. What the user may open is opened as the user, by
 * whatever links; the second try is root's, which follows none that another user could have made.
 */
enum ebb_err ebbi_open_for(ebb_fd *handle, struct ebb_scope *scope, const char *path, int flags,
                           unsigned mode, const char *user) {
    enum ebb_err error = ebb_files_as(user);
    if (error)
        return error;
    error = ebb_fd_open(handle, scope, path, flags, mode);
    ebb_files_as_ourselves();
    return error && user ? ebb_fd_open(handle, scope, path, flags, mode) : error;
}

static enum ebb_err pid_file_refused(enum ebb_err error) {
    char why[ERROR_TEXT];
    if (error == EBB_ERR_USAGE)
        return error; /* no such user */
    snprintf(why, sizeof(why), "%s", ebb_err_text());
    return ebb_err_set(error, "--pidfile (-P): %s%s", why,
                       strchr(why, ';') ? "" /* it names the remedy */
                                        : "; give a path in a folder that is there and may be "
                                          "written to");
}

/* With the lock, so another's pid is never overwritten. */
static enum ebb_err write_pid(int fd, const char *path) {
    if (!is_at(fd, path)) /* who held it until now has just removed it */
        return ebb_err_set(EBB_ERR_BUSY, "pid file %s was removed just now; try again", path);
    if (ftruncate(fd, 0) != 0 || dprintf(fd, "%d\n", (int)getpid()) < 0)
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot write pid file %s: %s", path, strerror(errno));
    return EBB_OK;
}

enum ebb_err ebbi_pid_file_open(ebb_fd *handle, struct ebb_scope *scope, const char *path,
                                const char *user) {
    int flags = O_RDWR | O_CREAT;
    enum ebb_err error = ebbi_open_for(handle, scope, path, flags | O_EXCL, 0644, user);
    bool made = error == EBB_OK;
    if (!made)
        error = ebbi_open_for(handle, scope, path, flags, 0644, user);
    if (error)
        return pid_file_refused(error);
    int fd = ebb_fd_get(*handle);
    bool locked = flock(fd, LOCK_EX | LOCK_NB) == 0, held = !locked && errno == EWOULDBLOCK;
    if (locked)
        error = write_pid(fd, path);
    else if (held)
        error = held_by_another(fd, path);
    else
        error = ebb_err_set(EBB_ERR_SYSTEM,
                            "cannot lock pid file %s: %s; give a path on a file system with locks",
                            path, strerror(errno));
    if (error && is_regular(fd) && (locked || (made && !held)))
        ebbi_pid_file_remove(*handle, path);
    if (error)
        ebb_fd_close(*handle);
    return error;
}

bool ebbi_remove(const char *path) {
    char word[PATH_MAX];
    bool way_exposed;
    int folder = ebbi_open_folder(path, word, &way_exposed);
    bool removed = folder >= 0 && unlinkat(folder, word, 0) == 0;
    int error = errno;
    if (folder >= 0)
        close(folder);
    errno = error;
    return removed;
}

void ebbi_pid_file_remove(ebb_fd handle, const char *path) {
    int fd = ebb_fd_get(handle);
    if (fd < 0)
        return;
    /* Another user than the one that made it may not remove it; then it is left empty. */
    if (!(is_at(fd, path) && ebbi_remove(path)) && ftruncate(fd, 0) != 0)
        return;
}

/* The ids only: the strings lie in room that is gone. */
static enum ebb_err find_user(const char *name, uid_t *uid, gid_t *gid) {
    struct passwd entry, *found = NULL;
    char room[PASSWD_ROOM];
    if (getpwnam_r(name, &entry, room, sizeof(room), &found) != 0 || found == NULL)
        return ebb_err_set(EBB_ERR_USAGE,
                           "--user (-u): there is no user \"%s\" to become; give one that exists",
                           name);
    *uid = entry.pw_uid;
    *gid = entry.pw_gid;
    return EBB_OK;
}

/* Of this thread alone, as the file system ids are; libc would change those of all. */
static bool set_groups(const gid_t *groups, int count) {
    return syscall(SYS_setgroups, (size_t)count, groups) == 0;
}

static struct {
    int count; /* -1: as ourselves */
    gid_t group[GROUPS_MAX];
} root_groups = {.count = -1};

enum ebb_err ebb_files_as(const char *user) {
    uid_t uid;
    gid_t gid, groups[GROUPS_MAX];
    int count = GROUPS_MAX;
    if (geteuid() != 0 || user == NULL)
        return EBB_OK;
    enum ebb_err error = find_user(user, &uid, &gid);
    if (error)
        return error;
    if (getgrouplist(user, gid, groups, &count) < 0)
        count = 0; /* so many are too many: its first one alone */
    root_groups.count = getgroups(GROUPS_MAX, root_groups.group);
    if (root_groups.count < 0 || !set_groups(groups, count)) {
        root_groups.count = -1;
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot open files as user \"%s\": %s", user,
                           strerror(errno));
    }
    setfsgid(gid);
    setfsuid(uid);
    return EBB_OK;
}

void ebb_files_as_ourselves(void) {
    setfsuid(geteuid());
    setfsgid(getegid());
    if (root_groups.count >= 0)
        set_groups(root_groups.group, root_groups.count);
    root_groups.count = -1;
}

enum ebb_err ebbi_become_user(const char *name) {
    uid_t uid;
    gid_t gid;
    if (geteuid() != 0)
        return EBB_OK;
    enum ebb_err error = find_user(name, &uid, &gid);
    if (error)
        return error;
    if (initgroups(name, gid) != 0 || setgid(gid) != 0 || setuid(uid) != 0)
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot become user \"%s\": %s", name, strerror(errno));
    /* Changing the user hides /proc/self from ourselves; the metrics read it. */
    prctl(PR_SET_DUMPABLE, 1);
    return EBB_OK;
}
