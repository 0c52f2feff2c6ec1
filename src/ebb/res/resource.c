/* resource -- opening what is neither memory nor a plain descriptor; close.c ends it.
 *
 * 1. Whatever was opened is in the table before the function returns, or it is closed again.
 * 2. Between fork and exec a child calls only what may be called there: nothing allocates.
 * 3. Our signal handlers never run in a child: signals wait from before the fork until the child
 * has forgotten the handlers. Only the collector's two pass, because whoever forks waits for the
 * collector's lock. */
#include <ebb/resource.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ebb/thread.h>

#include "res_internal.h"
#include "table.h"

#define CALL_SITE     ((uintptr_t)__builtin_return_address(0))
#define PATH_TEXT     4096
#define WHAT_TEXT     128
#define EXIT_NOT_RUN  127
#define SIGNAL_STATUS 128 /* as shells say it: 128 + signal */

static enum ebb_err map_refused(const char *verb, size_t length, const char *note) {
    return ebb_err_set(EBB_ERR_SYSTEM, "cannot %s %zu bytes for %s: %s", verb, length, note,
                       strerror(errno));
}

__attribute__((noinline)) enum ebb_err ebb_map_open(ebb_fd *handle, struct ebb_scope *scope,
                                                    ebb_fd file, size_t length, int protection,
                                                    const char *note) {
    *handle = EBB_FD_NONE;
    int flags = file.generation == 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED;
    int fd = file.generation == 0 ? -1 : ebb_fd_get(file);
    if (file.generation != 0 && fd < 0)
        return ebb_err_set(EBB_ERR_STALE, "cannot map %s: its file is closed", note);
    void *at = mmap(NULL, length, protection, flags, fd, 0);
    if (at == MAP_FAILED)
        return map_refused("map", length, note);
    struct ebbi_resource resource = {
        .kind = EBB_RESOURCE_mapping, .fd = -1, .at = (uintptr_t)at, .size = length};
    return ebbi_resource_keep(handle, scope, &resource, note, CALL_SITE);
}

__attribute__((noinline)) enum ebb_err ebb_locked_open(ebb_fd *handle, struct ebb_scope *scope,
                                                       size_t length, const char *note) {
    *handle = EBB_FD_NONE;
    void *at = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (at == MAP_FAILED)
        return map_refused("map", length, note);
    if (mlock(at, length) != 0 || madvise(at, length, MADV_DONTDUMP) != 0 ||
        madvise(at, length, MADV_WIPEONFORK) != 0) {
        bool limited = errno == ENOMEM || errno == EPERM || errno == EAGAIN;
        enum ebb_err err = map_refused("lock", length, note);
        munmap(at, length);
        return limited ? ebb_err_set(EBB_ERR_LIMIT,
                                     "cannot lock %zu bytes for %s: RLIMIT_MEMLOCK does not allow "
                                     "it; raise it with `ulimit -l` or LimitMEMLOCK=",
                                     length, note)
                       : err;
    }
    struct ebbi_resource resource = {
        .kind = EBB_RESOURCE_locked, .fd = -1, .at = (uintptr_t)at, .size = length};
    return ebbi_resource_keep(handle, scope, &resource, note, CALL_SITE);
}

void *ebb_map_get(ebb_fd handle, size_t *length) {
    struct ebbi_resource now;
    if (!ebbi_table_read(handle, &now) ||
        (now.kind != EBB_RESOURCE_mapping && now.kind != EBB_RESOURCE_locked))
        return NULL;
    if (length != NULL)
        *length = now.size;
    return (void *)(uintptr_t)now.at;
}

__attribute__((noinline)) enum ebb_err ebb_temporary_open(ebb_fd *handle, struct ebb_scope *scope,
                                                          const char *folder) {
    char path[PATH_TEXT];
    if (folder == NULL)
        folder = getenv("TMPDIR");
    snprintf(path, sizeof path, "%s/ebb-XXXXXX", folder != NULL ? folder : P_tmpdir);
    int fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0 && ebbi_fd_make_room(errno))
        fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0) {
        char what[WHAT_TEXT];
        int error = errno;
        snprintf(what, sizeof what, "make the temporary file %.90s", path);
        *handle = EBB_FD_NONE;
        return ebbi_fd_refused(error, what);
    }
    struct ebbi_resource resource = {.kind = EBB_RESOURCE_temporary, .fd = fd};
    size_t length = strlen(path), room = sizeof resource.note - 1;
    return ebbi_resource_keep(handle, scope, &resource, path + (length > room ? length - room : 0),
                              CALL_SITE);
}

/* In the child, where the other threads are gone and their locks may be held for ever. */
static _Noreturn void become(const char *const argv[], const int descriptors[3]) {
    sigset_t none;
    sigemptyset(&none);
    for (int number = 1; number < NSIG; number++)
        signal(number, SIG_DFL);
    sigprocmask(SIG_SETMASK, &none, NULL);
    int null = open("/dev/null", O_RDWR | O_CLOEXEC), from[3];
    /* Out of the way first: one of them may be a number that another is to become. */
    for (int i = 0; i < 3; i++)
        from[i] = fcntl(descriptors[i] < 0 ? null : descriptors[i], F_DUPFD_CLOEXEC, 3);
    for (int i = 0; i < 3; i++)
        dup2(from[i], i);
    execv(argv[0], (char *const *)argv);
    _exit(EXIT_NOT_RUN);
}

static pid_t fork_quietly(void) {
    sigset_t most, before;
    sigfillset(&most);
    for (int number = 1; number < NSIG; number++)
        if (ebb_signal_is_collectors(number))
            sigdelset(&most, number);
    pthread_sigmask(SIG_SETMASK, &most, &before);
    pid_t id = fork();
    if (id != 0) {
        int error = errno;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        errno = error;
    }
    return id;
}

__attribute__((noinline)) enum ebb_err ebb_child_open(ebb_fd *handle, struct ebb_scope *scope,
                                                      const char *const argv[],
                                                      const int descriptors[3]) {
    *handle = EBB_FD_NONE;
    if (access(argv[0], X_OK) != 0)
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot run %s: %s", argv[0], strerror(errno));
    pid_t id = fork_quietly();
    if (id == 0)
        become(argv, descriptors);
    if (id < 0)
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot start %s: %s", argv[0], strerror(errno));
    int fd = pidfd_open(id, 0);
    if (fd < 0 && ebbi_fd_make_room(errno))
        fd = pidfd_open(id, 0);
    if (fd < 0) {
        int error = errno;
        kill(id, SIGKILL); /* nobody has reaped it, so the number is still its own */
        while (waitpid(id, NULL, 0) < 0 && errno == EINTR)
            ;
        return ebbi_fd_refused(error, "watch over a child process");
    }
    struct ebbi_resource resource = {.kind = EBB_RESOURCE_child, .fd = fd, .at = (uint64_t)id};
    return ebbi_resource_keep(handle, scope, &resource, argv[0], CALL_SITE);
}

pid_t ebb_child_id(ebb_fd handle) {
    struct ebbi_resource now;
    return ebbi_table_read(handle, &now) && now.kind == EBB_RESOURCE_child ? (pid_t)now.at : 0;
}

enum ebb_err ebb_child_wait(ebb_fd handle, int *status) {
    siginfo_t ended = {0};
    int fd = ebb_fd_pin(handle), failed;
    if (fd < 0)
        return ebb_err_set(EBB_ERR_STALE, "this child process was let go of");
    while ((failed = waitid(P_PIDFD, (id_t)fd, &ended, WEXITED | WNOWAIT)) != 0 && errno == EINTR)
        ;
    ebb_fd_unpin(handle);
    if (failed != 0)
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot wait for a child: %s", strerror(errno));
    *status = ended.si_code == CLD_EXITED ? ended.si_status : SIGNAL_STATUS + ended.si_status;
    return EBB_OK;
}

__attribute__((noinline)) enum ebb_err ebb_thread_open(ebb_fd *handle, struct ebb_scope *scope,
                                                       const char *name, void (*run)(void *),
                                                       void *arg) {
    struct ebb_thread *thread;
    *handle = EBB_FD_NONE;
    enum ebb_err err = ebb_thread_start(&thread, name, run, arg);
    if (err != EBB_OK)
        return err;
    /* The table is not scanned; the thread is reachable because the collector lists all of them. */
    struct ebbi_resource resource = {
        .kind = EBB_RESOURCE_thread, .fd = -1, .at = (uintptr_t)thread};
    return ebbi_resource_keep(handle, scope, &resource, name, CALL_SITE);
}
