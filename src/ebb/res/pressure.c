/* pressure -- hears that memory is short.
 *
 * The kernel's pressure files wake who wrote a threshold into them with POLLPRI, which an event
 * loop does not wait for. So the file goes into an epoll set of its own, and the set, which the
 * loop watches, is readable when the file has something to say.
 *
 * A file that cannot be waited for at all (a stand-in on a disk) is looked at each second. */
#include <ebb/pressure.h>

#include <ebb/base64.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/open.h"
#include "res_internal.h"
#include "telemetry/events.h"

/* 150 ms of standing still within 2 s. Shorter windows are for the privileged alone. */
#define THRESHOLD     "some 150000 2000000"
#define WRITE_TEXT    256
#define PATH_TEXT     1024
#define NS_OF(moment) ((int64_t)(moment).tv_sec * 1000000000 + (moment).tv_nsec)

/* Decodes $MEMORY_PRESSURE_WRITE; 0: it is not set, no base64, or too long. */
static size_t read_say(char say[WRITE_TEXT]) {
    const char *text = getenv("MEMORY_PRESSURE_WRITE");
    size_t length = text == NULL ? 0 : strlen(text);
    if (length / 4 * 3 > WRITE_TEXT)
        return 0;
    return ebb_base64_decode((struct ebb_span){text, length}, say);
}

static int64_t changed_ns(const struct ebb_pressure *pressure) {
    struct stat is;
    return fstat(ebb_fd_get(pressure->source), &is) == 0 ? NS_OF(is.st_mtim) : 0;
}

/* A socket is connected, anything else is opened. */
static int open_source(const char *path, const struct stat *is) {
    if (!S_ISSOCK(is->st_mode))
        return ebbi_open(path, O_RDWR | O_NONBLOCK, 0);
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Into an epoll set of its own; a file that cannot be in one is looked at by ebb_pressure_take. */
static enum ebb_err wait_for_priority(struct ebb_pressure *pressure, struct ebb_scope *scope) {
    struct epoll_event event = {.events = EPOLLPRI};
    enum ebb_err err = ebb_fd_epoll(&pressure->ready, scope, "memory pressure");
    if (err != EBB_OK)
        return err;
    if (epoll_ctl(ebb_fd_get(pressure->ready), EPOLL_CTL_ADD, ebb_fd_get(pressure->source),
                  &event) == 0)
        return EBB_OK;
    ebb_fd_close(pressure->ready);
    pressure->ready = EBB_FD_NONE;
    pressure->changed_ns = changed_ns(pressure);
    return EBB_OK;
}

static enum ebb_err listen_to(struct ebb_pressure *pressure, struct ebb_scope *scope,
                              const char *path, const char *say, size_t say_length) {
    struct stat is;
    int fd = stat(path, &is) == 0 ? open_source(path, &is) : -1;
    if (fd < 0)
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot watch memory pressure at %s: %s", path,
                           strerror(errno));
    enum ebb_err err = ebb_fd_adopt(&pressure->source, scope, EBB_RESOURCE_file, fd, path);
    if (err != EBB_OK)
        return err;
    if (say_length > 0 && write(fd, say, say_length) != (ssize_t)say_length) {
        err =
            ebb_err_set(EBB_ERR_SYSTEM, "cannot set a threshold at %s: %s", path, strerror(errno));
        ebb_fd_close(pressure->source);
        pressure->source = EBB_FD_NONE;
        return err;
    }
    snprintf(pressure->what, sizeof pressure->what, "%.290s", path);
    pressure->is_stream = S_ISFIFO(is.st_mode) || S_ISSOCK(is.st_mode);
    if (!pressure->is_stream)
        return wait_for_priority(pressure, scope);
    /* What we said ourselves comes back out of a pipe that we have open for both: drop it. */
    ebb_pressure_take(pressure, true);
    pressure->ready = pressure->source;
    return EBB_OK;
}

enum ebb_err ebb_pressure_open(struct ebb_pressure *pressure, struct ebb_scope *scope,
                               const struct ebb_memory_limits *limits, const char *root) {
    char say[WRITE_TEXT], path[PATH_TEXT];
    const char *watch = getenv("MEMORY_PRESSURE_WATCH");
    *pressure = (struct ebb_pressure){.what = "nowhere"};
    if (watch != NULL && strcmp(watch, "/dev/null") == 0)
        return EBB_OK;
    if (watch != NULL && watch[0] != '\0') {
        if (listen_to(pressure, scope, watch, say, read_say(say)) != EBB_OK)
            ebb_log_event(pressure_unheard, ebb_err_text());
        return EBB_OK;
    }
    if (limits->version == 2) {
        snprintf(path, sizeof path, "%s/memory.pressure", limits->folder);
        if (listen_to(pressure, scope, path, THRESHOLD, sizeof THRESHOLD) == EBB_OK)
            return EBB_OK;
    }
    snprintf(path, sizeof path, "%s/proc/pressure/memory", root);
    if (listen_to(pressure, scope, path, THRESHOLD, sizeof THRESHOLD) != EBB_OK)
        ebb_log_event(pressure_unheard, ebb_err_text());
    return EBB_OK;
}

bool ebb_pressure_take(struct ebb_pressure *pressure, bool is_ready) {
    int fd = ebb_fd_get(pressure->source);
    if (fd < 0)
        return false;
    if (pressure->is_stream) {
        char dropped[WRITE_TEXT];
        bool any = false;
        ssize_t got;
        while ((got = read(fd, dropped, sizeof dropped)) > 0)
            any = true;
        pressure->ended = got == 0;
        return any;
    }
    if (pressure->ready.generation != 0)
        return is_ready;
    int64_t changed = changed_ns(pressure);
    bool news = changed != pressure->changed_ns;
    pressure->changed_ns = changed;
    return news;
}
