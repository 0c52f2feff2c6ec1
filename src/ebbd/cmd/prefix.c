/* prefix -- counts by the beginning of keys, while somebody asked for them.
 *
 * A table of fixed size, searched from the hash on. memcached's grows with what clients send; here
 * beginnings beyond PREFIXES_MAX are not counted. One that breaks a line is shown percent-encoded.
 *
 * 1. One lock: counting is for looking into something, and is off otherwise.
 * 2. The table is made when it is switched on first, and pointer-free. */
#include "prefix.h"

#include "stream.h"

#include <ebb/hash.h>
#include <ebb/mem.h>
#include <pthread.h>

#define PREFIXES      2048 /* places; a power of two */
#define PREFIXES_MAX  1024 /* in use */
#define DUMP_LINE_MAX 512  /* bytes */

struct prefix {
    uint64_t count[PREFIX_EVENTS];
    uint8_t length;
    bool used;
    char name[REQUEST_KEY_MAX];
};

_Atomic bool prefix_counts;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct prefix *prefixes; /* NULL: never switched on */
static uint32_t prefixes_used;
static char delimiter[2] = ":";

const char *prefix_delimiter(void) {
    return delimiter;
}

void prefix_delimiter_set(const char *wanted) {
    delimiter[0] = wanted[0];
    prefix_switch(true);
}

static void clear(void) {
    if (prefixes)
        memset(prefixes, 0, PREFIXES * sizeof(*prefixes));
    prefixes_used = 0;
}

void prefix_switch(bool on) {
    pthread_mutex_lock(&lock);
    if (on && prefixes == NULL) {
        prefixes = ebb_try_bytes(PREFIXES * sizeof(*prefixes));
        clear();
    }
    atomic_store(&prefix_counts, on && prefixes);
    pthread_mutex_unlock(&lock);
}

void prefix_reset(void) {
    pthread_mutex_lock(&lock);
    clear();
    pthread_mutex_unlock(&lock);
}

/* Under the lock. NULL: there are too many. */
static struct prefix *find(struct ebb_span name) {
    uint64_t place = ebb_hash(name.at, name.length, 0);
    for (;; place++) {
        struct prefix *prefix = &prefixes[place % PREFIXES];
        if (!prefix->used) {
            if (prefixes_used == PREFIXES_MAX)
                return NULL;
            prefixes_used++;
            prefix->used = true;
            prefix->length = (uint8_t)name.length;
            memcpy(prefix->name, name.at, name.length);
            return prefix;
        }
        if (prefix->length == name.length && memcmp(prefix->name, name.at, name.length) == 0)
            return prefix;
    }
}

void prefix_count(struct ebb_span key, enum prefix_event event) {
    const char *end = memchr(key.at, delimiter[0], key.length);
    if (end == NULL)
        return;
    pthread_mutex_lock(&lock);
    if (prefixes) {
        struct prefix *prefix = find((struct ebb_span){key.at, (size_t)(end - key.at)});
        if (prefix)
            prefix->count[event]++;
    }
    pthread_mutex_unlock(&lock);
}

static void write_one(struct reply *reply, const struct prefix *prefix) {
    static const char *const name[PREFIX_EVENTS] = {" get ", " hit ", " set ", " del "};
    struct ebb_span key = {prefix->name, prefix->length};
    char text[3 * REQUEST_KEY_MAX];
    reply_bytes(reply, "PREFIX ", 7);
    if (request_is_word(key))
        reply_bytes(reply, key.at, key.length);
    else
        reply_bytes(reply, text, (size_t)(stream_write_uri(text, key) - text));
    for (int i = 0; i < PREFIX_EVENTS; i++) {
        reply_bytes(reply, name[i], 5);
        reply_number(reply, prefix->count[i]);
    }
    reply_bytes(reply, "\r\n", 2);
}

bool prefix_dump(struct reply *reply, uint32_t *at) {
    pthread_mutex_lock(&lock);
    for (; prefixes && *at < PREFIXES && !reply_full(reply); ++*at)
        if (prefixes[*at].used)
            write_one(reply, &prefixes[*at]);
    bool more = prefixes && *at < PREFIXES;
    pthread_mutex_unlock(&lock);
    return more;
}
