/* client -- what the load generator and the replayer share.
 *
 * Values are slices of one pool of random bytes: a value is known by the place where it starts, so
 * writing costs a copy and verifying costs a comparison. Random bytes do not compress and do not
 * repeat, so no server gains by either. */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define POOL_PLACES 65536 /* a power of two */

static char *pool;

void client_die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("bench: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

uint64_t client_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_SECOND + (uint64_t)now.tv_nsec;
}

int client_connect(const char *host, int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, host, &address.sin_addr) != 1)
        client_die("--host %s: give an IPv4 address", host);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0)
        client_die("%s:%d: %s", host, port, strerror(errno));
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    return fd;
}

void *client_memory(size_t bytes) {
    void *memory = calloc(1, bytes);
    if (memory == NULL)
        client_die("no memory for %zu bytes", bytes);
    return memory;
}

void client_values_init(size_t size_max) {
    size_t words = (POOL_PLACES + size_max) / sizeof(uint64_t) + 1;
    uint64_t *word = client_memory(words * sizeof *word);
    for (size_t i = 0; i < words; i++)
        word[i] = client_hash(i);
    pool = (char *)word;
}

const char *client_value(uint64_t hash) {
    return pool + (hash & (POOL_PLACES - 1));
}

uint64_t client_number(const char *text, const char **after) {
    uint64_t number = 0;
    for (; *text >= '0' && *text <= '9'; text++)
        number = number * 10 + (uint64_t)(*text - '0');
    *after = text;
    return number;
}

void client_options(int argc, char **argv, const struct option *options, const char *usage,
                    void (*take)(int letter)) {
    for (int letter; (letter = getopt_long(argc, argv, "", options, NULL)) != -1;) {
        if (letter == 'H' || letter == '?') {
            fputs(usage, letter == 'H' ? stdout : stderr);
            exit(letter == 'H' ? 0 : 64);
        }
        take(letter);
    }
}

uint64_t client_option_number(const char *option, const char *text, uint64_t low, uint64_t high) {
    const char *after;
    uint64_t number = client_number(text, &after);
    if (after == text || *after != '\0' || number < low || number > high)
        client_die("--%s %s: give a number from %llu to %llu", option, text,
                   (unsigned long long)low, (unsigned long long)high);
    return number;
}
