/* ask -- `ebb-adopt report`: asks every ebb-adopt of this user that runs on this machine, over its
 * abstract socket, and prints the answers.
 *
 * 1. A stranger's socket is not asked for anything but a report, and who does not answer within
 * ANSWER_SECONDS_MAX is passed over.
 * 2. No daemon runs here, so there are no scopes: what is opened is closed in the same function. */
#include "adopt.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <fcntl.h>
#include <sysexits.h>
#include <unistd.h>

enum { ANSWER_SECONDS_MAX = 5, LIST_BYTES = 1 << 20 };
static const char prefix[] = "@ebb-adopt-";

static const char usage[] = "usage: ebb-adopt report [PID|NAME] [--json]\n";

/* An answer that says nothing ("no such process") is not printed. */
static bool print_answer(int fd, bool json) {
    static char bytes[ADOPT_BYTES_MAX];
    bool printed = false;
    for (;;) {
        ssize_t got = recv(fd, bytes, sizeof bytes, 0);
        if (got <= 0)
            return printed;
        if (!printed && (strncmp(bytes, "no ", 3) == 0 || (json && got < 20)))
            continue;
        fwrite(bytes, 1, (size_t)got, stdout);
        printed = true;
    }
}

static bool ask_one(const char *name, size_t length, const char *question, bool json) {
    struct sockaddr_un to = {.sun_family = AF_UNIX}, any = {.sun_family = AF_UNIX};
    const struct timeval most = {.tv_sec = ANSWER_SECONDS_MAX};
    bool printed = false;
    int fd = length < sizeof to.sun_path ? socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) : -1;
    if (fd < 0)
        return false;
    memcpy(to.sun_path + 1, name + 1, length - 1);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &most, sizeof most);
    if (bind(fd, (const void *)&any, sizeof any.sun_family) == 0 &&
        sendto(fd, question, strlen(question), 0, (const void *)&to,
               (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length)) > 0)
        printed = print_answer(fd, json);
    close(fd);
    return printed;
}

static void read_list(char *text, size_t size) {
    size_t used = 0;
    ssize_t got = 0;
    int fd = open("/proc/net/unix", O_RDONLY | O_CLOEXEC);
    while (fd >= 0 && used < size - 1 && (got = read(fd, text + used, size - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = '\0';
    if (fd >= 0)
        close(fd);
}

int ask_report(int argc, char **argv) {
    static char list[LIST_BYTES];
    char question[128];
    const char *only = "";
    bool json = false, printed = false;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--json") == 0) {
            json = true;
        } else if (argv[i][0] == '-' || *only) {
            fprintf(stderr, "ebb-adopt: report: %s: %s", argv[i], usage);
            return EX_USAGE;
        } else {
            only = argv[i];
        }
    }
    snprintf(question, sizeof question, "%s %s", json ? "json" : "text", only);
    read_list(list, sizeof list);
    for (const char *at = list; (at = strstr(at, prefix)) != NULL; at += strlen(prefix))
        printed |= ask_one(at, strcspn(at, "\n"), question, json);
    if (!printed)
        fprintf(stderr, "ebb-adopt: no watched process%s%s has reported\n", *only ? " " : "", only);
    return printed ? EX_OK : EXIT_FAILURE;
}
