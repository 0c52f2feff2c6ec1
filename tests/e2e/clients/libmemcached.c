/* libmemcached -- a round of the C client: HOST PORT text|binary. */
#include <libmemcached/memcached.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define LARGE   (1000 * 1000) /* bytes */
#define KEYS    200
#define WAIT_MS 10000

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "line %d: not so: %s (last error: %s)\n", __LINE__, #condition,        \
                    memcached_last_error_message(cache));                                          \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static memcached_st *cache;

static memcached_return_t set(const char *key, const char *value, time_t ttl) {
    return memcached_set(cache, key, strlen(key), value, strlen(value), ttl, 7);
}

static int has(const char *key, const char *wanted) {
    size_t length;
    uint32_t flags;
    memcached_return_t result;
    char *value = memcached_get(cache, key, strlen(key), &length, &flags, &result);
    int same = value && length == strlen(wanted) && memcmp(value, wanted, length) == 0;
    free(value);
    return same;
}

static void connect_to(const char *host, const char *port, int binary) {
    cache = memcached_create(NULL);
    memcached_behavior_set(cache, MEMCACHED_BEHAVIOR_BINARY_PROTOCOL, (uint64_t)binary);
    memcached_behavior_set(cache, MEMCACHED_BEHAVIOR_SUPPORT_CAS, 1);
    CHECK(memcached_server_add(cache, host, (in_port_t)atoi(port)) == MEMCACHED_SUCCESS);
}

static void single(void) {
    CHECK(set("a", "hello", 0) == MEMCACHED_SUCCESS);
    CHECK(has("a", "hello") && !has("absent", "hello"));
    CHECK(memcached_add(cache, "a", 1, "x", 1, 0, 0) != MEMCACHED_SUCCESS);
    CHECK(memcached_append(cache, "a", 1, " you", 4, 0, 0) == MEMCACHED_SUCCESS);
    CHECK(memcached_prepend(cache, "a", 1, "oh ", 3, 0, 0) == MEMCACHED_SUCCESS);
    CHECK(has("a", "oh hello you"));
    CHECK(memcached_replace(cache, "absent", 6, "x", 1, 0, 0) != MEMCACHED_SUCCESS);
    CHECK(memcached_delete(cache, "a", 1, 0) == MEMCACHED_SUCCESS);
    CHECK(memcached_delete(cache, "a", 1, 0) == MEMCACHED_NOTFOUND);
}

static int fetch_all(uint64_t *cas) {
    memcached_return_t result;
    memcached_result_st *found;
    int count = 0;
    while ((found = memcached_fetch_result(cache, NULL, &result)) != NULL) {
        *cas = memcached_result_cas(found);
        count++;
        memcached_result_free(found);
    }
    return count;
}

static void many_and_cas(void) {
    static char names[KEYS][32];
    const char *keys[KEYS];
    size_t lengths[KEYS];
    uint64_t cas = 0;
    for (int i = 0; i < KEYS; i++) {
        snprintf(names[i], sizeof(names[i]), "many-%d", i);
        keys[i] = names[i];
        lengths[i] = strlen(names[i]);
        if (i % 2 == 0)
            CHECK(set(names[i], names[i], 0) == MEMCACHED_SUCCESS);
    }
    CHECK(memcached_mget(cache, keys, lengths, KEYS) == MEMCACHED_SUCCESS);
    CHECK(fetch_all(&cas) == KEYS / 2);
    CHECK(memcached_mget(cache, keys, lengths, 1) == MEMCACHED_SUCCESS);
    CHECK(fetch_all(&cas) == 1 && cas != 0);
    CHECK(memcached_cas(cache, keys[0], lengths[0], "new", 3, 0, 0, cas) == MEMCACHED_SUCCESS);
    CHECK(memcached_cas(cache, keys[0], lengths[0], "old", 3, 0, 0, cas) == MEMCACHED_DATA_EXISTS);
    CHECK(has(keys[0], "new"));
}

static void counting(int binary) {
    uint64_t number = 0;
    CHECK(set("n", "41", 0) == MEMCACHED_SUCCESS);
    CHECK(memcached_increment(cache, "n", 1, 1, &number) == MEMCACHED_SUCCESS && number == 42);
    CHECK(memcached_decrement(cache, "n", 1, 50, &number) == MEMCACHED_SUCCESS && number == 0);
    CHECK(memcached_increment(cache, "absent", 6, 1, &number) != MEMCACHED_SUCCESS);
    if (!binary)
        return;
    CHECK(memcached_increment_with_initial(cache, "made", 4, 1, 100, 0, &number) ==
              MEMCACHED_SUCCESS &&
          number == 100);
    CHECK(has("made", "100"));
}

static void expiry(void) {
    CHECK(set("short", "1", 1) == MEMCACHED_SUCCESS);
    CHECK(set("touched", "1", 1) == MEMCACHED_SUCCESS);
    CHECK(memcached_touch(cache, "touched", 7, 1000) == MEMCACHED_SUCCESS);
    for (int waited = 0; has("short", "1"); waited += 50) {
        CHECK(waited < WAIT_MS);
        usleep(50 * 1000);
    }
    CHECK(has("touched", "1"));
}

static void large(void) {
    char *value = malloc(LARGE + 1);
    memset(value, 'l', LARGE);
    value[LARGE] = '\0';
    CHECK(set("large", value, 0) == MEMCACHED_SUCCESS && has("large", value));
    free(value);
}

/* The same client goes on when the server comes back. */
static void restart(void) {
    puts("restart");
    fflush(stdout);
    while (getchar() != '\n')
        ;
    for (int waited = 0; set("again", "1", 0) != MEMCACHED_SUCCESS; waited += 50) {
        CHECK(waited < WAIT_MS);
        usleep(50 * 1000);
    }
    CHECK(has("again", "1") && !has("touched", "1"));
}

int main(int argc, char **argv) {
    if (argc != 4)
        return 2;
    int binary = strcmp(argv[3], "binary") == 0;
    connect_to(argv[1], argv[2], binary);
    single();
    many_and_cas();
    counting(binary);
    expiry();
    large();
    restart();
    memcached_free(cache);
    connect_to(argv[1], argv[2], binary);
    CHECK(has("again", "1"));
    CHECK(memcached_flush(cache, 0) == MEMCACHED_SUCCESS);
    CHECK(!has("again", "1"));
    memcached_free(cache);
    return 0;
}
