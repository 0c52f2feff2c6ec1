/* plant -- mistakes for a running ebbd: preloaded, it makes those that $EBB_PLANT names at each
 * connection that is accepted. The daemon is the real one, and nothing of it is replaced.
 *
 *   leak        an object of the daemon's own to which nobody says goodbye
 *   hoard       64 KiB that are kept for no reason
 *   descriptor  a descriptor that nobody closes */
#include <dlfcn.h>
#include <ebb/mem.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>

#define LOST_BYTES  300
#define HOARD_BYTES 65536

EBB_TYPE_DECLARE(conn)
EBB_TYPE_DECLARE(backlog)

struct hoard {
    struct hoard *next;
};

static struct hoard *hoard;

__attribute__((noinline)) static void lose_one(void) {
    memset(ebb_new_sized(&ebb_type_conn, LOST_BYTES), 1, 1);
}

static void hoard_one(void) {
    struct hoard *more = ebb_new_sized(&ebb_type_backlog, HOARD_BYTES);
    more->next = hoard;
    hoard = more;
}

int accept4(int socket, struct sockaddr *address, socklen_t *size, int flags) {
    int (*real)(int, struct sockaddr *, socklen_t *, int);
    *(void **)&real = dlsym(RTLD_NEXT, "accept4");
    int fd = real(socket, address, size, flags);
    const char *planted = getenv("EBB_PLANT");
    if (fd < 0 || planted == NULL)
        return fd;
    if (strstr(planted, "leak"))
        lose_one();
    if (strstr(planted, "hoard"))
        hoard_one();
    if (strstr(planted, "descriptor"))
        eventfd(0, EFD_CLOEXEC);
    return fd;
}
