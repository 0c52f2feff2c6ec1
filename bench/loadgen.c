/* loadgen -- a load generator for memcached's text protocol, and for redis' GET and SET.
 *
 * Some threads, each with some connections in one epoll set. A connection sends a batch of
 * requests, reads all the replies, notes how long that took, and sends the next (a closed loop). A
 * batch of one request is plain ping-pong; a batch of many is pipelining, or one multi-key get. The
 * latency of a batch is that of its last reply. With --rate, a batch that is not due yet is waited
 * for by its thread, whose other connections wait too: latencies are upper bounds then.
 *
 * Keys are numbers in hexadecimal. The size and the bytes of a value follow from its key, so any
 * reader can verify any value. One reply in VERIFY_EVERY is compared byte by byte; a wrong byte or
 * key is counted, and makes the run fail.
 *
 * 1. Replies come in the order of the requests: `answered` is the index of the request that the
 * next reply belongs to.
 * 2. Each request is finished by exactly one closing line: END, STORED, EN, or an error; for `mg`
 * and redis, by the end of the data.
 * 3. A batch is over when all of it is sent and all of it is answered. */
#include "client.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define KEY_LENGTH     20    /* bytes */
#define SIZES          65536 /* table of value sizes, by key hash; a power of two */
#define VALUE_SIZE_MAX (64u << 20)
#define LOGNORMAL_MAX  65536 /* bytes; the tail is cut here */
#define DEPTH_MAX      1024
#define IN_ROOM        (256u << 10)
#define LINE_ROOM      128 /* bytes of a request besides its value */
#define VERIFY_EVERY   16
#define RECENT_KEYS    2000  /* --order recent reads among so many that were written last */
#define SILENCE_MS     20000 /* a server that says nothing for so long is broken */
#define EVENTS         64

enum mode { MODE_PIPELINE, MODE_META, MODE_MULTIGET };
enum order { ORDER_RANDOM, ORDER_SEQUENTIAL, ORDER_RECENT };

static struct {
    const char *host;
    int port;
    enum protocol protocol;
    enum mode mode;
    int threads, connections, depth;
    int set_percent;
    uint64_t keys, key_base;
    enum order order;
    uint64_t ops_max; /* 0: no bound */
    uint64_t rate;    /* requests in a second, of all threads; 0: as fast as replies come */
    uint64_t duration_ns;
} config = {.host = "127.0.0.1",
            .threads = 1,
            .connections = 4,
            .depth = 1,
            .keys = 100000,
            .duration_ns = NS_PER_SECOND};

static _Atomic uint64_t written; /* with --order recent: how many keys are */

static uint32_t sizes[SIZES];
static uint32_t size_max;
static uint64_t start_ns, end_ns;
static _Atomic uint64_t
    issued; /* requests handed out so far; with --order sequential also the next key */

/* A histogram of nanoseconds: 64 linear buckets in each power of two, so a quantile is right
 * within 1.6%. */
#define HISTOGRAM_BITS    6
#define HISTOGRAM_LINEAR  (1u << HISTOGRAM_BITS)
#define HISTOGRAM_BUCKETS ((64 - HISTOGRAM_BITS + 1) * HISTOGRAM_LINEAR)

struct tally {
    uint64_t gets, hits, sets, errors, wrong, verified, batches, latency_sum_ns, latency_max_ns;
    uint64_t histogram[HISTOGRAM_BUCKETS];
    char first_error[100];
};

struct request {
    uint64_t key;
    bool set;
};

struct conn {
    int fd;
    bool wants_out, idle;
    char *out;
    size_t out_length, out_sent;
    char *in;
    size_t in_length;
    struct request *requests;
    int expected, answered;
    uint64_t sent_ns;
    /* The data block that is being read. */
    size_t data_left;        /* with its CR LF */
    const char *data_should; /* what its next bytes shall be, NULL: not verified */
    bool data_closes;        /* its end finishes the request */
};

struct worker {
    pthread_t thread;
    int epoll_fd;
    uint64_t random, replies;
    int active;
    struct conn *conns;
    struct tally tally;
};

static unsigned histogram_bucket(uint64_t ns) {
    if (ns < HISTOGRAM_LINEAR)
        return (unsigned)ns;
    unsigned shift = 63u - (unsigned)__builtin_clzll(ns) - HISTOGRAM_BITS;
    return (shift + 1) * HISTOGRAM_LINEAR + (unsigned)(ns >> shift) - HISTOGRAM_LINEAR;
}

static uint64_t histogram_middle_ns(unsigned bucket) {
    if (bucket < HISTOGRAM_LINEAR)
        return bucket;
    unsigned shift = bucket / HISTOGRAM_LINEAR - 1;
    uint64_t low = (uint64_t)(bucket % HISTOGRAM_LINEAR + HISTOGRAM_LINEAR) << shift;
    return low + (1ull << shift) / 2;
}

static uint64_t histogram_quantile_ns(const struct tally *tally, double q) {
    uint64_t wanted = (uint64_t)ceil(q * (double)tally->batches), seen = 0;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++) {
        seen += tally->histogram[i];
        if (seen >= wanted && seen > 0)
            return histogram_middle_ns(i);
    }
    return 0;
}

static void latency_note(struct tally *tally, uint64_t ns) {
    tally->histogram[histogram_bucket(ns)]++;
    tally->batches++;
    tally->latency_sum_ns += ns;
    if (ns > tally->latency_max_ns)
        tally->latency_max_ns = ns;
}

static void error_note(struct tally *tally, const char *line, size_t length) {
    if (tally->errors++ == 0) {
        size_t n = length < sizeof tally->first_error - 1 ? length : sizeof tally->first_error - 1;
        for (size_t i = 0; i < n; i++) {
            char byte = line[i];
            bool plain = byte >= ' ' && byte <= '~' && byte != '"' && byte != '\\';
            tally->first_error[i] = plain ? byte : '.';
        }
    }
}

static uint32_t value_size(uint64_t key) {
    return sizes[client_hash(key) & (SIZES - 1)];
}

static const char *value_bytes(uint64_t key) {
    return client_value(client_hash(key) >> 32);
}

static char *put(char *to, const char *text) {
    size_t length = strlen(text);
    memcpy(to, text, length);
    return to + length;
}

static char *put_key(char *to, uint64_t key) {
    for (int i = KEY_LENGTH - 1; i >= 0; i--, key >>= 4)
        to[i] = "0123456789abcdef"[key & 15];
    return to + KEY_LENGTH;
}

static uint64_t key_of(const char *text) {
    uint64_t key = 0;
    for (int i = 0; i < KEY_LENGTH; i++)
        key = key << 4 | (uint64_t)(text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10);
    return key;
}

static char *put_set(char *to, uint64_t key) {
    uint32_t size = value_size(key);
    if (config.protocol == PROTOCOL_REDIS) {
        to += sprintf(to, "*3\r\n$3\r\nSET\r\n$%d\r\n", KEY_LENGTH);
        to = put_key(to, key);
        to += sprintf(to, "\r\n$%u\r\n", size);
    } else {
        to = put_key(put(to, "set "), key);
        to += sprintf(to, " 0 0 %u\r\n", size);
    }
    memcpy(to, value_bytes(key), size);
    return put(to + size, "\r\n");
}

static char *put_get(char *to, uint64_t key) {
    if (config.protocol == PROTOCOL_REDIS) {
        to += sprintf(to, "*2\r\n$3\r\nGET\r\n$%d\r\n", KEY_LENGTH);
        return put(put_key(to, key), "\r\n");
    }
    if (config.mode == MODE_META)
        return put(put_key(put(to, "mg "), key), " v\r\n");
    return put(put_key(put(to, "get "), key), "\r\n");
}

static uint64_t next_random(struct worker *worker) {
    return client_hash(worker->random++);
}

static char *put_multiget(struct worker *worker, struct conn *conn, char *to) {
    to = put(to, "get");
    for (int i = 0; i < config.depth; i++)
        to = put_key(put(to, " "), conn->requests[i].key);
    conn->expected = 1;
    worker->tally.gets += (uint64_t)config.depth;
    return put(to, "\r\n");
}

/* A new key to write, or one of the latest to read. */
static uint64_t recent_key(struct worker *worker, bool set) {
    if (set)
        return config.key_base + atomic_fetch_add_explicit(&written, 1, memory_order_relaxed);
    uint64_t end = atomic_load_explicit(&written, memory_order_relaxed);
    uint64_t back = 1 + next_random(worker) % RECENT_KEYS;
    return config.key_base + (back < end ? end - back : 0);
}

static char *put_pipeline(struct worker *worker, struct conn *conn, char *to) {
    for (int i = 0; i < config.depth; i++) {
        struct request *request = &conn->requests[i];
        request->set = next_random(worker) % 100 < (uint64_t)config.set_percent;
        if (config.order == ORDER_RECENT)
            request->key = recent_key(worker, request->set);
        to = request->set ? put_set(to, request->key) : put_get(to, request->key);
        *(request->set ? &worker->tally.sets : &worker->tally.gets) += 1;
    }
    conn->expected = config.depth;
    return to;
}

/* Waits until the request with this number is due; returns the time. */
static uint64_t wait_for_turn(uint64_t ticket, uint64_t now_ns) {
    uint64_t due_ns = start_ns + (uint64_t)((double)ticket / (double)config.rate * NS_PER_SECOND);
    if (due_ns <= now_ns)
        return now_ns;
    struct timespec due = {.tv_sec = (time_t)(due_ns / NS_PER_SECOND),
                           .tv_nsec = (long)(due_ns % NS_PER_SECOND)};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
    return client_now_ns();
}

/* Fills conn->out with the next batch. False: the run is over. */
static bool batch_make(struct worker *worker, struct conn *conn, uint64_t now_ns) {
    if (now_ns >= end_ns)
        return false;
    uint64_t ticket =
        atomic_fetch_add_explicit(&issued, (uint64_t)config.depth, memory_order_relaxed);
    if (config.ops_max != 0 && ticket >= config.ops_max)
        return false;
    if (config.rate != 0)
        now_ns = wait_for_turn(ticket, now_ns);
    for (int i = 0; i < config.depth; i++) {
        uint64_t n = config.order == ORDER_SEQUENTIAL ? ticket + (uint64_t)i : next_random(worker);
        conn->requests[i].key = config.key_base + n % config.keys;
    }
    char *end = config.mode == MODE_MULTIGET ? put_multiget(worker, conn, conn->out)
                                             : put_pipeline(worker, conn, conn->out);
    conn->out_length = (size_t)(end - conn->out);
    conn->out_sent = 0;
    conn->answered = 0;
    conn->sent_ns = now_ns;
    return true;
}

static void conn_watch(struct worker *worker, struct conn *conn, bool out) {
    struct epoll_event event = {.events = EPOLLIN | (out ? (uint32_t)EPOLLOUT : 0u),
                                .data.ptr = conn};
    if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_MOD, conn->fd, &event) != 0)
        client_die("epoll_ctl: %s", strerror(errno));
    conn->wants_out = out;
}

static void conn_send(struct worker *worker, struct conn *conn) {
    while (conn->out_sent < conn->out_length) {
        ssize_t n = send(conn->fd, conn->out + conn->out_sent, conn->out_length - conn->out_sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EAGAIN) {
            if (!conn->wants_out)
                conn_watch(worker, conn, true);
            return;
        }
        if (n < 0)
            client_die("send: %s", strerror(errno));
        conn->out_sent += (size_t)n;
    }
    if (conn->wants_out)
        conn_watch(worker, conn, false);
}

static void data_begin(struct worker *worker, struct conn *conn, uint64_t key, uint64_t length,
                       bool closes) {
    worker->tally.hits++;
    conn->data_left = length + 2;
    conn->data_closes = closes;
    conn->data_should = NULL;
    if (worker->replies++ % VERIFY_EVERY == 0) {
        worker->tally.verified++;
        if (length == value_size(key))
            conn->data_should = value_bytes(key);
        else
            worker->tally.wrong++;
    }
}

/* Takes up to n bytes of the data block; returns how many. */
static size_t data_take(struct worker *worker, struct conn *conn, const char *bytes, size_t n) {
    if (n > conn->data_left)
        n = conn->data_left;
    if (conn->data_should != NULL) {
        size_t value_left = conn->data_left > 2 ? conn->data_left - 2 : 0;
        size_t compare = n < value_left ? n : value_left;
        if (memcmp(bytes, conn->data_should, compare) != 0) {
            worker->tally.wrong++;
            conn->data_should = NULL;
        } else {
            conn->data_should += compare;
        }
    }
    conn->data_left -= n;
    if (conn->data_left == 0 && conn->data_closes)
        conn->answered++;
    return n;
}

static void line_redis(struct worker *worker, struct conn *conn, const char *line, size_t length) {
    const char *after;
    if (line[0] == '$' && line[1] != '-') {
        data_begin(worker, conn, conn->requests[conn->answered].key,
                   client_number(line + 1, &after), true);
        return;
    }
    if (line[0] == '-')
        error_note(&worker->tally, line, length);
    conn->answered++; /* +OK, $-1, or an error */
}

static void line_memcached(struct worker *worker, struct conn *conn, const char *line,
                           size_t length) {
    const char *after;
    if (length > 6 + KEY_LENGTH && memcmp(line, "VALUE ", 6) == 0) {
        client_number(line + 6 + KEY_LENGTH + 1, &after); /* the client's flags */
        data_begin(worker, conn, key_of(line + 6), client_number(after + 1, &after), false);
        return;
    }
    if (length > 3 && memcmp(line, "VA ", 3) == 0) {
        data_begin(worker, conn, conn->requests[conn->answered].key,
                   client_number(line + 3, &after), true);
        return;
    }
    bool fine = (length == 5 && memcmp(line, "END\r\n", 5) == 0) ||
                (length == 4 && memcmp(line, "EN\r\n", 4) == 0) ||
                (length == 8 && memcmp(line, "STORED\r\n", 8) == 0);
    if (!fine)
        error_note(&worker->tally, line, length);
    conn->answered++;
}

/* Reads what is there and parses all of it that is complete. */
static void conn_receive(struct worker *worker, struct conn *conn) {
    ssize_t n = recv(conn->fd, conn->in + conn->in_length, IN_ROOM - conn->in_length, MSG_DONTWAIT);
    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        client_die("the server closed a connection: %s", n < 0 ? strerror(errno) : "end of stream");
    char *at = conn->in, *end = conn->in + conn->in_length + (size_t)n;
    while (at < end) {
        if (conn->data_left > 0) {
            at += data_take(worker, conn, at, (size_t)(end - at));
            continue;
        }
        char *newline = memchr(at, '\n', (size_t)(end - at));
        if (newline == NULL)
            break;
        if (conn->answered == conn->expected)
            client_die("a reply that nobody asked for: %.*s", (int)(newline - at), at);
        size_t length = (size_t)(newline + 1 - at);
        (config.protocol == PROTOCOL_REDIS ? line_redis : line_memcached)(worker, conn, at, length);
        at = newline + 1;
    }
    conn->in_length = (size_t)(end - at);
    if (conn->in_length == IN_ROOM)
        client_die("a reply line without an end");
    memmove(conn->in, at, conn->in_length);
}

static void conn_next(struct worker *worker, struct conn *conn, uint64_t now_ns) {
    if (batch_make(worker, conn, now_ns)) {
        conn_send(worker, conn);
    } else {
        conn->idle = true;
        worker->active--;
    }
}

static void conn_event(struct worker *worker, struct conn *conn, uint32_t events) {
    if (conn->idle)
        return;
    if (events & EPOLLOUT)
        conn_send(worker, conn);
    if (events & ~(uint32_t)EPOLLOUT)
        conn_receive(worker, conn);
    if (conn->answered == conn->expected && conn->out_sent == conn->out_length) {
        uint64_t now_ns = client_now_ns();
        latency_note(&worker->tally, now_ns - conn->sent_ns);
        conn_next(worker, conn, now_ns);
    }
}

static void worker_open(struct worker *worker, int number) {
    worker->random = client_hash((uint64_t)number + 1) ^ client_now_ns();
    worker->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    worker->conns = client_memory((size_t)config.connections * sizeof *worker->conns);
    size_t out_room =
        (size_t)config.depth * (LINE_ROOM + (config.set_percent > 0 ? size_max : 0)) + LINE_ROOM;
    for (int i = 0; i < config.connections; i++) {
        struct conn *conn = &worker->conns[i];
        conn->fd = client_connect(config.host, config.port);
        conn->out = client_memory(out_room);
        conn->in = client_memory(IN_ROOM);
        conn->requests = client_memory((size_t)config.depth * sizeof *conn->requests);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = conn};
        if (epoll_ctl(worker->epoll_fd, EPOLL_CTL_ADD, conn->fd, &event) != 0)
            client_die("epoll_ctl: %s", strerror(errno));
    }
    worker->active = config.connections;
}

static void *worker_run(void *arg) {
    struct worker *worker = arg;
    struct epoll_event events[EVENTS];
    for (int i = 0; i < config.connections; i++)
        conn_next(worker, &worker->conns[i], client_now_ns());
    while (worker->active > 0) {
        int n = epoll_wait(worker->epoll_fd, events, EVENTS, SILENCE_MS);
        if (n == 0)
            client_die("the server has been silent for %d s", SILENCE_MS / 1000);
        for (int i = 0; i < n; i++)
            conn_event(worker, events[i].data.ptr, events[i].events);
    }
    return NULL;
}

static void tally_add(struct tally *sum, const struct tally *one) {
    sum->gets += one->gets;
    sum->hits += one->hits;
    sum->sets += one->sets;
    if (sum->errors == 0)
        memcpy(sum->first_error, one->first_error, sizeof sum->first_error);
    sum->errors += one->errors;
    sum->wrong += one->wrong;
    sum->verified += one->verified;
    sum->batches += one->batches;
    sum->latency_sum_ns += one->latency_sum_ns;
    if (one->latency_max_ns > sum->latency_max_ns)
        sum->latency_max_ns = one->latency_max_ns;
    for (unsigned i = 0; i < HISTOGRAM_BUCKETS; i++)
        sum->histogram[i] += one->histogram[i];
}

static void report(const struct tally *sum) {
    double seconds = (double)(client_now_ns() - start_ns) / NS_PER_SECOND;
    uint64_t ops = sum->gets + sum->sets;
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    double cpu = (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
                 (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
    printf("{\"seconds\": %.6f, \"ops\": %llu, \"ops_per_second\": %.1f, \"gets\": %llu, \"hits\": "
           "%llu, "
           "\"misses\": %llu, \"sets\": %llu, \"errors\": %llu, \"first_error\": \"%s\", "
           "\"verified\": %llu, "
           "\"wrong\": %llu, \"batches\": %llu, \"client_cpu_seconds\": %.3f, ",
           seconds, (unsigned long long)ops, (double)ops / seconds, (unsigned long long)sum->gets,
           (unsigned long long)sum->hits, (unsigned long long)(sum->gets - sum->hits),
           (unsigned long long)sum->sets, (unsigned long long)sum->errors, sum->first_error,
           (unsigned long long)sum->verified, (unsigned long long)sum->wrong,
           (unsigned long long)sum->batches, cpu);
    printf("\"latency_us\": {\"mean\": %.2f, \"p50\": %.2f, \"p99\": %.2f, \"p999\": %.2f, "
           "\"max\": %.2f}}\n",
           sum->batches ? (double)sum->latency_sum_ns / (double)sum->batches / 1e3 : 0.0,
           (double)histogram_quantile_ns(sum, 0.5) / 1e3,
           (double)histogram_quantile_ns(sum, 0.99) / 1e3,
           (double)histogram_quantile_ns(sum, 0.999) / 1e3, (double)sum->latency_max_ns / 1e3);
}

/* Sizes by key hash, from "N", "A,B,C" (each equally often) or "lognormal:MEDIAN:SIGMA". */
static void sizes_read(const char *text) {
    double median, sigma;
    if (sscanf(text, "lognormal:%lf:%lf", &median, &sigma) == 2 && median >= 1) {
        for (unsigned i = 0; i < SIZES; i++) {
            double u = ((double)(client_hash(i) >> 11) + 1) / 9007199254740993.0;
            double v = (double)(client_hash(i + SIZES) >> 11) / 9007199254740992.0;
            double normal = sqrt(-2 * log(u)) * cos(2 * M_PI * v);
            sizes[i] = (uint32_t)fmin(fmax(1, median * exp(sigma * normal)), LOGNORMAL_MAX);
        }
    } else {
        char copy[256], *rest = copy, *one;
        snprintf(copy, sizeof copy, "%s", text);
        uint32_t choices[32];
        unsigned count = 0;
        while (count < 32 && (one = strsep(&rest, ",")) != NULL)
            choices[count++] = (uint32_t)client_option_number("value-size", one, 1, VALUE_SIZE_MAX);
        for (unsigned i = 0; i < SIZES; i++)
            sizes[i] = choices[i % count];
    }
    for (unsigned i = 0; i < SIZES; i++)
        size_max = sizes[i] > size_max ? sizes[i] : size_max;
}

static const struct option options[] = {
    {"host", 1, NULL, 'h'},       {"port", 1, NULL, 'p'},
    {"protocol", 1, NULL, 'P'},   {"mode", 1, NULL, 'm'},
    {"threads", 1, NULL, 't'},    {"connections", 1, NULL, 'c'},
    {"depth", 1, NULL, 'd'},      {"set-percent", 1, NULL, 's'},
    {"value-size", 1, NULL, 'v'}, {"keys", 1, NULL, 'k'},
    {"key-base", 1, NULL, 'b'},   {"order", 1, NULL, 'o'},
    {"seconds", 1, NULL, 'S'},    {"ops", 1, NULL, 'n'},
    {"rate", 1, NULL, 'r'},       {"help", 0, NULL, 'H'},
    {NULL, 0, NULL, 0},
};

static const char usage_text[] =
    "ebb-loadgen --port N [options]: loads a cache server, prints one line of JSON\n"
    "  --host ADDRESS --port N --protocol memcached|redis\n"
    "  --mode pipeline|meta|multiget   how a batch asks; --depth N requests (keys) in a batch\n"
    "  --threads N --connections N     connections are per thread\n"
    "  --set-percent N                 so many of the requests write\n"
    "  --value-size N | N,N,... | lognormal:MEDIAN:SIGMA\n"
    "  --keys N --key-base N --order random|sequential|recent\n"
    "                                  recent: new keys are written, the latest are read\n"
    "  --seconds S, --ops N            whichever comes first\n"
    "  --rate N                        requests in a second, of all threads (as many as it can)\n";

/* The index of text among choices, which end in NULL. */
static int choice(const char *option, const char *text, const char *const *choices) {
    for (int i = 0; choices[i] != NULL; i++)
        if (strcmp(text, choices[i]) == 0)
            return i;
    client_die("--%s %s: unknown; see --help", option, text);
}

static void option_take(int letter) {
    static const char *const protocols[] = {"memcached", "redis", NULL};
    static const char *const modes[] = {"pipeline", "meta", "multiget", NULL};
    static const char *const orders[] = {"random", "sequential", "recent", NULL};
    switch (letter) {
    case 'h':
        config.host = optarg;
        break;
    case 'p':
        config.port = (int)client_option_number("port", optarg, 1, 65535);
        break;
    case 'P':
        config.protocol = (enum protocol)choice("protocol", optarg, protocols);
        break;
    case 'm':
        config.mode = (enum mode)choice("mode", optarg, modes);
        break;
    case 't':
        config.threads = (int)client_option_number("threads", optarg, 1, 256);
        break;
    case 'c':
        config.connections = (int)client_option_number("connections", optarg, 1, 10000);
        break;
    case 'd':
        config.depth = (int)client_option_number("depth", optarg, 1, DEPTH_MAX);
        break;
    case 's':
        config.set_percent = (int)client_option_number("set-percent", optarg, 0, 100);
        break;
    case 'v':
        size_max = 0;
        sizes_read(optarg);
        break;
    case 'k':
        config.keys = client_option_number("keys", optarg, 1, UINT64_MAX / 2);
        break;
    case 'b':
        config.key_base = client_option_number("key-base", optarg, 0, UINT64_MAX / 2);
        break;
    case 'o':
        config.order = (enum order)choice("order", optarg, orders);
        break;
    case 'S':
        config.duration_ns = (uint64_t)(strtod(optarg, NULL) * NS_PER_SECOND);
        break;
    case 'n':
        config.ops_max = client_option_number("ops", optarg, 1, UINT64_MAX / 2);
        break;
    case 'r':
        config.rate = client_option_number("rate", optarg, 1, NS_PER_SECOND);
        break;
    default:
        break;
    }
}

int main(int argc, char **argv) {
    sizes_read("100");
    client_options(argc, argv, options, usage_text, option_take);
    if (config.port == 0)
        client_die("--port is missing; see --help");
    if (config.mode != MODE_PIPELINE && config.protocol == PROTOCOL_REDIS)
        client_die("--mode meta and multiget are for memcached's protocol");
    if (config.mode == MODE_MULTIGET && config.set_percent > 0)
        client_die("--mode multiget only reads");
    client_values_init(size_max);
    struct worker *workers = client_memory((size_t)config.threads * sizeof *workers);
    for (int i = 0; i < config.threads; i++)
        worker_open(&workers[i], i);
    start_ns = client_now_ns();
    end_ns = start_ns + config.duration_ns;
    for (int i = 0; i < config.threads; i++)
        if (pthread_create(&workers[i].thread, NULL, worker_run, &workers[i]) != 0)
            client_die("pthread_create failed");
    struct tally *sum = client_memory(sizeof *sum);
    for (int i = 0; i < config.threads; i++) {
        pthread_join(workers[i].thread, NULL);
        tally_add(sum, &workers[i].tally);
    }
    report(sum);
    return sum->wrong > 0 ? 1 : 0;
}
