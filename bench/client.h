/* client -- what the load generator and the replayer share: time, a connection, made-up values. */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <getopt.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum protocol { PROTOCOL_MEMCACHED, PROTOCOL_REDIS };

#define NS_PER_SECOND 1000000000ull

/* Prints "bench: MESSAGE" on stderr and leaves with status 1. */
_Noreturn void client_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

uint64_t client_now_ns(void);

/* A connected TCP socket without Nagle's delay. Dies when the server cannot be reached. */
int client_connect(const char *host, int port);

/* Mixes the bits of n; equal n give equal results. */
static inline uint64_t client_hash(uint64_t n) {
    n += 0x9e3779b97f4a7c15ull;
    n = (n ^ (n >> 30)) * 0xbf58476d1ce4e5b9ull;
    n = (n ^ (n >> 27)) * 0x94d049bb133111ebull;
    return n ^ (n >> 31);
}

/* Memory that is asked for once and never given back: a failure ends the program. */
void *client_memory(size_t bytes);

/* Makes room for values of up to size_max bytes. Once, before client_value. */
void client_values_init(size_t size_max);
/* The bytes of the value that belongs to hash; at least size_max of them. The same hash gives the
 * same bytes, so a reader can verify what it gets without remembering what was written. */
const char *client_value(uint64_t hash);

/* The number at the start of text, which ends at a byte that is no digit; *after is that byte. */
uint64_t client_number(const char *text, const char **after);

/* Hands each option to take, its value in optarg. 'H' prints the usage, what is unknown ends with
 * it and status 64. */
void client_options(int argc, char **argv, const struct option *options, const char *usage,
                    void (*take)(int letter));

/* The value of a command line's number. Dies with the option's name unless low <= value <= high. */
uint64_t client_option_number(const char *option, const char *text, uint64_t low, uint64_t high);

#endif
