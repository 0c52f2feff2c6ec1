/* apr_memcache -- a round of the Apache runtime's client: HOST PORT text. It has neither cas nor
 * flush. */
#include <apr_general.h>
#include <apr_hash.h>
#include <apr_memcache.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGE   (1000 * 1000) /* bytes */
#define KEYS    200
#define WAIT_MS 10000
#define FLAGS   7

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: not so: %s\n", __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static apr_pool_t *pool;
static apr_memcache_t *cache;
static apr_memcache_server_t *server;

static void connect_to(const char *host, const char *port) {
    CHECK(apr_memcache_create(pool, 1, 0, &cache) == APR_SUCCESS);
    CHECK(apr_memcache_server_create(pool, host, (apr_port_t)atoi(port), 0, 1, 1, 60 * 1000 * 1000,
                                     &server) == APR_SUCCESS);
    CHECK(apr_memcache_add_server(cache, server) == APR_SUCCESS);
}

typedef apr_status_t (*store_fn)(apr_memcache_t *, const char *, char *, apr_size_t, apr_uint32_t,
                                 apr_uint16_t);

static apr_status_t store(store_fn how, const char *key, const char *value, apr_uint32_t ttl) {
    return how(cache, key, (char *)value, strlen(value), ttl, FLAGS); /* it is only read */
}

static apr_status_t set(const char *key, const char *value, apr_uint32_t ttl) {
    return store(apr_memcache_set, key, value, ttl);
}

static int has(const char *key, const char *wanted) {
    char *value;
    apr_size_t length;
    apr_uint16_t flags;
    return apr_memcache_getp(cache, pool, key, &value, &length, &flags) == APR_SUCCESS &&
           flags == FLAGS && length == strlen(wanted) && memcmp(value, wanted, length) == 0;
}

static void single(void) {
    CHECK(set("a", "hello", 0) == APR_SUCCESS);
    CHECK(has("a", "hello") && !has("absent", "hello"));
    CHECK(store(apr_memcache_add, "a", "x", 0) == APR_EEXIST);
    CHECK(store(apr_memcache_replace, "a", "y", 0) == APR_SUCCESS && has("a", "y"));
    CHECK(store(apr_memcache_replace, "absent", "x", 0) == APR_EEXIST);
    CHECK(apr_memcache_delete(cache, "a", 0) == APR_SUCCESS);
    CHECK(apr_memcache_delete(cache, "a", 0) == APR_NOTFOUND);
}

static void many(void) {
    apr_hash_t *wanted = NULL;
    apr_pool_t *scratch; /* the client clears it */
    CHECK(apr_pool_create(&scratch, pool) == APR_SUCCESS);
    for (int i = 0; i < KEYS; i++) {
        const char *name = apr_psprintf(pool, "many-%d", i);
        if (i % 2 == 0)
            CHECK(set(name, name, 0) == APR_SUCCESS);
        apr_memcache_add_multget_key(pool, name, &wanted);
    }
    CHECK(apr_memcache_multgetp(cache, scratch, pool, wanted) == APR_SUCCESS);
    for (int i = 0; i < KEYS; i++) {
        const char *name = apr_psprintf(pool, "many-%d", i);
        const apr_memcache_value_t *found = apr_hash_get(wanted, name, APR_HASH_KEY_STRING);
        CHECK(found && found->status == (i % 2 == 0 ? APR_SUCCESS : APR_NOTFOUND));
        CHECK(i % 2 != 0 ||
              (found->len == strlen(name) && memcmp(found->data, name, found->len) == 0));
    }
}

static void counting(void) {
    apr_uint32_t number;
    CHECK(set("n", "41", 0) == APR_SUCCESS);
    CHECK(apr_memcache_incr(cache, "n", 1, &number) == APR_SUCCESS && number == 42);
    CHECK(apr_memcache_decr(cache, "n", 50, &number) == APR_SUCCESS && number == 0);
    CHECK(apr_memcache_incr(cache, "absent", 1, &number) == APR_NOTFOUND);
}

static void expiry(void) {
    CHECK(set("short", "1", 1) == APR_SUCCESS && set("long", "1", 1000) == APR_SUCCESS);
    for (int waited = 0; has("short", "1"); waited += 50) {
        CHECK(waited < WAIT_MS);
        usleep(50 * 1000);
    }
    CHECK(has("long", "1"));
}

static void large(void) {
    char *value = malloc(LARGE + 1);
    memset(value, 'l', LARGE);
    value[LARGE] = '\0';
    CHECK(set("large", value, 0) == APR_SUCCESS && has("large", value));
    free(value);
}

static void of_the_server(void) {
    char *version;
    apr_memcache_stats_t *stats;
    CHECK(apr_memcache_version(server, pool, &version) == APR_SUCCESS);
    CHECK(strncmp(version, "1.6", 3) == 0);
    CHECK(apr_memcache_stats(server, pool, &stats) == APR_SUCCESS);
    CHECK(stats->curr_items > KEYS / 2 && stats->threads == 4 &&
          stats->limit_maxbytes == 128 << 20);
}

/* The same client goes on when the server comes back. */
static void restart(void) {
    puts("restart");
    fflush(stdout);
    while (getchar() != '\n')
        ;
    for (int waited = 0; set("again", "1", 0) != APR_SUCCESS; waited += 50) {
        CHECK(waited < WAIT_MS);
        usleep(50 * 1000);
        apr_memcache_enable_server(cache, server); /* else it stays away for five seconds */
    }
    CHECK(has("again", "1") && !has("long", "1"));
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    signal(SIGPIPE, SIG_IGN);
    CHECK(apr_initialize() == APR_SUCCESS && apr_pool_create(&pool, NULL) == APR_SUCCESS);
    connect_to(argv[1], argv[2]);
    single();
    many();
    counting();
    expiry();
    large();
    of_the_server();
    restart();
    connect_to(argv[1], argv[2]);
    CHECK(has("again", "1"));
    apr_terminate();
    return 0;
}
