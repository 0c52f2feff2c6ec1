/* hear -- the socket that reports come to, and questions of `ebb-adopt report`.
 *
 * 1. A report counts when it carries the token, which only the watched processes know; a question
 * when the kernel says that it comes from this user, or root.
 * 2. Everything that has come is taken in one turn, but for a bound: other work goes on. */
#include "adopt.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { MESSAGES_A_TURN = 64, ANSWER_BYTES_MAX = 256 << 10, ROOM_BYTES = 1 << 20 };

static ebb_fd inlet;
static struct ebb_watch *watch;
static char the_token[ADOPT_TOKEN_BYTES];

static void answer(int fd, const struct sockaddr_un *to, socklen_t length, const char *question) {
    struct ebb_array_writer text;
    char *room = ebb_bytes(ANSWER_BYTES_MAX);
    bool json = strncmp(question, "json ", strlen("json ")) == 0;
    const char *only = strchr(question, ' ') ? strchr(question, ' ') + 1 : "";
    ebb_array_writer_init(&text, room, ANSWER_BYTES_MAX);
    if (json)
        pages_write_json(&text.writer, *only ? only : NULL);
    else
        pages_write_text(&text.writer, *only ? only : NULL);
    for (size_t at = 0; at < text.used; at += ADOPT_BYTES_MAX) {
        size_t rest = text.used - at;
        (void)!sendto(fd, room + at, rest < ADOPT_BYTES_MAX ? rest : ADOPT_BYTES_MAX, MSG_NOSIGNAL,
                      (const void *)to, length);
    }
    (void)!sendto(fd, "", 0, MSG_NOSIGNAL, (const void *)to, length);
    ebb_keep(room);
}

static bool is_trusted(struct msghdr *message) {
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part))
        if (part->cmsg_level == SOL_SOCKET && part->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(part), sizeof who);
            return who.uid == 0 || who.uid == geteuid();
        }
    return false;
}

/* False: nothing has come. */
static bool take_one(int fd) {
    static _Alignas(16) char bytes[ADOPT_BYTES_MAX + 1];
    static _Alignas(16) char control[CMSG_SPACE(sizeof(struct ucred))];
    struct sockaddr_un from;
    struct iovec piece = {bytes, sizeof bytes - 1};
    struct msghdr message = {.msg_name = &from,
                             .msg_namelen = sizeof from,
                             .msg_iov = &piece,
                             .msg_iovlen = 1,
                             .msg_control = control,
                             .msg_controllen = sizeof control};
    ssize_t got = recvmsg(fd, &message, MSG_DONTWAIT);
    const struct adopt_header *header = (const void *)bytes;
    if (got < 0)
        return errno == EINTR;
    bytes[got] = '\0';
    if ((size_t)got >= sizeof *header && header->magic == ADOPT_MAGIC &&
        header->version == ADOPT_VERSION && strcmp(header->token, the_token) == 0)
        processes_take(header, (size_t)got);
    else if (message.msg_namelen > sizeof(sa_family_t) && is_trusted(&message))
        answer(fd, &from, message.msg_namelen, bytes);
    return true;
}

static void on_message(int events, void *arg) {
    (void)events, (void)arg;
    int fd = ebb_fd_get(inlet);
    for (int i = 0; i < MESSAGES_A_TURN && take_one(fd); i++)
        ;
}

static enum ebb_err make_token(void) {
    unsigned char random[(ADOPT_TOKEN_BYTES - 1) / 2];
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot have random bytes: %s", strerror(errno));
    for (size_t i = 0; i < sizeof random; i++)
        snprintf(the_token + 2 * i, 3, "%02x", random[i]);
    return EBB_OK;
}

enum ebb_err hear_open(struct ebb_loop *loop, struct ebb_scope *scope, char name[64],
                       char token[ADOPT_TOKEN_BYTES]) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const int yes = 1, room = ROOM_BYTES;
    enum ebb_err error = make_token();
    if (error == EBB_OK)
        error = ebb_fd_socket(&inlet, scope, AF_UNIX, SOCK_DGRAM, "reports");
    if (error)
        return error;
    snprintf(name, 64, "ebb-adopt-%d", getpid());
    memcpy(token, the_token, ADOPT_TOKEN_BYTES);
    memcpy(address.sun_path + 1, name, strlen(name));
    socklen_t length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + strlen(name));
    int fd = ebb_fd_get(inlet);
    setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof room);
    if (bind(fd, (const void *)&address, length) != 0)
        return ebb_err_set(EBB_ERR_SYSTEM, "cannot bind the socket @%s: %s", name, strerror(errno));
    return ebb_watch_open(&watch, loop, inlet, EBB_READ, on_message, NULL);
}

void hear_rest(void) {
    while (take_one(ebb_fd_get(inlet)))
        ;
}

void hear_close(void) {
    ebb_watch_close(watch);
    ebb_fd_close(inlet);
    watch = NULL;
}
