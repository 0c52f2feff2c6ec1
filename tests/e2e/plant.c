/* plant -- mistakes for a running ebbd: preloaded, it makes those that $EBB_PLANT names at each
 * connection that is accepted. The daemon is the real one, and nothing of it is replaced.
 *
 *   leak        an object of the daemon's own that is lost, among 31 that are kept
 *   hoard       64 KiB that are kept for no reason
 *   objects     200,000 small objects that are kept, at the first connection
 *   descriptor  a descriptor that nobody closes
 *
 * And what the system does:
 *   unwatched   epoll_ctl: the user's watches are used up */
#include <dlfcn.h>
#include <errno.h>
#include <ebb/mem.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LOST_BYTES   300
#define NEIGHBOURS   31
#define HOARD_BYTES  65536
#define OBJECTS      200000
#define OBJECT_BYTES 32

EBB_TYPE_DECLARE(conn)
EBB_TYPE_DECLARE(backlog)

struct hoard {
    struct hoard *next;
};

static struct hoard *hoard;

static void keep_one(size_t size) {
    struct hoard *more = ebb_new_sized(&ebb_type_backlog, size);
    more->next = hoard;
    hoard = more;
}

__attribute__((noinline)) static void lose_one(void) {
    memset(ebb_new_sized(&ebb_type_conn, LOST_BYTES), 1, 1);
    for (int i = 0; i < NEIGHBOURS; i++)
        keep_one(LOST_BYTES);
}

/* Whether the file names this mistake now. */
static bool is_planted(const char *mistake) {
    char words[100] = "";
    FILE *file = fopen(getenv("EBB_PLANT"), "re");
    if (file) {
        words[fread(words, 1, sizeof(words) - 1, file)] = 0;
        fclose(file);
    }
    return strstr(words, mistake) != NULL;
}

int accept4(int socket, struct sockaddr *address, socklen_t *size, int flags) {
    int (*real)(int, struct sockaddr *, socklen_t *, int);
    *(void **)&real = dlsym(RTLD_NEXT, "accept4");
    int fd = real(socket, address, size, flags);
    if (fd < 0)
        return fd;
    if (is_planted("leak"))
        lose_one();
    if (is_planted("hoard"))
        keep_one(HOARD_BYTES);
    if (is_planted("objects") && hoard == NULL)
        for (int i = 0; i < OBJECTS; i++)
            keep_one(OBJECT_BYTES);
    if (is_planted("descriptor"))
        eventfd(0, EFD_CLOEXEC);
    return fd;
}

int epoll_ctl(int set, int operation, int fd, struct epoll_event *event) {
    if (operation == EPOLL_CTL_ADD && is_planted("unwatched")) {
        errno = ENOSPC;
        return -1;
    }
    return (int)syscall(SYS_epoll_ctl, set, operation, fd, event);
}
