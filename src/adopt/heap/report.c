/* report -- datagrams to the program that started us. Its socket has an abstract name, so that it
 * is found after a chroot and after all descriptors were closed, and each report opens its own.
 *
 * 1. Nothing here waits for ever: a listener that does not take a message within SEND_SECONDS_MAX
 * loses it. One that is gone is no error.
 * 2. Memory is static: this runs in a copy whose heap stands still, or in a signal handler. */
#include "heap.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

enum { SEND_SECONDS_MAX = 5 };

static int to = -1;
static struct adopt_sites_message sites;
static struct adopt_maps_message maps;
static uint32_t sites_sent;
static int32_t process_now; /* which is reported on; the copy has another number */
static char name_now[sizeof((struct adopt_round *)0)->name];

/* The name is taken before main: a program that sets its title writes over it. */
void report_process(int32_t process) {
    if (name_now[0] == '\0')
        memcpy(name_now, program_invocation_short_name,
               strnlen(program_invocation_short_name, sizeof name_now - 1));
    process_now = process;
}

static struct adopt_header header_of(enum adopt_kind kind) {
    struct adopt_header header = {
        .magic = ADOPT_MAGIC, .version = ADOPT_VERSION, .kind = kind, .process = process_now};
    memcpy(header.token, adopt_options.token, sizeof header.token);
    return header;
}

bool report_open(void) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval most = {.tv_sec = SEND_SECONDS_MAX};
    size_t length = strlen(adopt_options.socket);
    memcpy(address.sun_path + 1, adopt_options.socket, length);
    to = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (to < 0)
        return false;
    setsockopt(to, SOL_SOCKET, SO_SNDTIMEO, &most, sizeof most);
    if (connect(to, (const void *)&address,
                (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length)) == 0)
        return true;
    close(to);
    return false;
}

static void post(const void *message, size_t bytes) {
    (void)!send(to, message, bytes, MSG_NOSIGNAL);
}

void report_round(struct adopt_round *round) {
    struct adopt_round_message message = {.header = header_of(ADOPT_ROUND), .round = *round};
    memcpy(message.round.name, name_now, sizeof name_now);
    post(&message, sizeof message);
}

static void post_sites(void) {
    sites.header = header_of(ADOPT_SITES);
    if (sites.count > 0)
        post(&sites,
             offsetof(struct adopt_sites_message, site) + sites.count * sizeof sites.site[0]);
    sites.count = 0;
}

void report_site(const struct adopt_site *site) {
    if (sites.count == sizeof sites.site / sizeof sites.site[0])
        post_sites();
    sites.site[sites.count++] = *site;
    sites_sent++;
}

static void post_maps(void) {
    maps.header = header_of(ADOPT_MAPS);
    if (maps.length > 0)
        post(&maps, offsetof(struct adopt_maps_message, text) + maps.length);
    maps.length = 0;
}

/* Of the files alone: what addresses of functions are resolved with. */
static void add_line(const char *line, size_t length) {
    if (memchr(line, '/', length) == NULL || length > sizeof maps.text)
        return;
    if (maps.length + length > sizeof maps.text)
        post_maps();
    memcpy(maps.text + maps.length, line, length);
    maps.length += (uint32_t)length;
}

void report_maps(void) {
    static char text[8192];
    size_t have = 0;
    int fd = roots_open_proc("maps");
    post_sites();
    for (ssize_t got; fd >= 0 && (got = read(fd, text + have, sizeof text - have)) > 0;) {
        have += (size_t)got;
        char *line = text, *end;
        while ((end = memchr(line, '\n', have - (size_t)(line - text)))) {
            add_line(line, (size_t)(end + 1 - line));
            line = end + 1;
        }
        have -= (size_t)(line - text);
        memmove(text, line, have);
    }
    if (fd >= 0)
        close(fd);
    post_maps();
}

void report_end(void) {
    post_sites();
    const struct adopt_end_message message = {.header = header_of(ADOPT_END), .sites = sites_sent};
    sites_sent = 0;
    post(&message, sizeof message);
    close(to);
    to = -1;
}
