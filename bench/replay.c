/* replay -- plays a trace against a cache server as an application would: look aside, and store
 * what was missed.
 *
 * The trace comes on stdin as CSV with the header line `ts,key,size,op,ttl`: seconds, text, bytes
 * of value, operation, seconds (0: none). get and gets look up; delete deletes; every other
 * operation writes.
 *
 * Speed comes from batches on one connection. A batch holds requests of different keys only, so
 * that what they do does not depend on their order: first the values that the batch before had
 * missed, then the batch's own writes and deletes, then all its gets as one multi-key get.
 * Memcached's writes go out as noreply; its complaints are counted all the same.
 *
 * A small trace is played as many copies side by side, each with keys of its own, in a cache so
 * many times larger: the miss ratio of the whole is that of one, and the fixed costs of the
 * processes no longer hide the cost of their items.
 *
 * Time: without --speed the trace is played as fast as the server answers, and TTLs are not sent.
 * With --speed S one second plays S seconds of the trace, and TTLs are divided by S and rounded up.
 *
 * 1. Before a batch is sent, every reply to earlier ones has been read: neither side can wait for
 * the other.
 * 2. The bytes of a value follow from its key: the first VERIFY_BYTES of every hit are compared. */
#include "client.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH_MAX    256
#define KEY_MAX      250  /* bytes */
#define COPIES_MAX   1296 /* two digits of base 36 */
#define VALUE_MAX    (8u << 20)
#define VERIFY_BYTES 64
#define OUT_FLUSH    (1u << 20)
#define OUT_ROOM     (OUT_FLUSH + VALUE_MAX + 4096)
#define IN_ROOM      (256u << 10)
#define SILENCE_S    20 /* a server that says nothing for so long is broken */

enum op { OP_GET, OP_SET, OP_DELETE };

struct record {
    const char *key;
    uint32_t key_length, size, ttl;
    double ts;
    enum op op;
};

struct request {
    char key[KEY_MAX];
    uint32_t key_length, size, ttl;
    uint64_t hash;
    enum op op;
    bool hit;
};

static struct {
    const char *host;
    int port;
    enum protocol protocol;
    int copies, batch;
    bool all_gets;
    double speed, seconds;
} config = {.host = "127.0.0.1", .copies = 1, .batch = 32, .seconds = 600};

static struct {
    uint64_t gets, hits, sets, fills, deletes, errors, wrong, get_bytes, hit_bytes, written_bytes;
    char first_error[100];
} tally;

static struct record *records;
static size_t record_count;

static int fd;
static char *out, *in;
static size_t out_length, in_at, in_end;

static struct request batch[BATCH_MAX], missed[BATCH_MAX];
static int batch_count, missed_count;

/* -- the trace -- */

static char *trace_read(size_t *length) {
    size_t room = 64u << 20, have = 0;
    char *text = client_memory(room + 1);
    for (size_t n; (n = fread(text + have, 1, room - have, stdin)) > 0;) {
        have += n;
        if (have == room && (text = realloc(text, (room *= 2) + 1)) == NULL)
            client_die("no memory for the trace");
    }
    text[have] = '\0';
    *length = have;
    return text;
}

static enum op op_of(const char *name, size_t length) {
    if (config.all_gets || (length >= 3 && memcmp(name, "get", 3) == 0))
        return OP_GET;
    return length == 6 && memcmp(name, "delete", 6) == 0 ? OP_DELETE : OP_SET;
}

/* Parses one line into record. False: it is not a row of a trace. */
static bool record_parse(char *line, struct record *record) {
    char *field[5] = {NULL};
    int count = 0;
    for (char *one; count < 5 && (one = strsep(&line, ",")) != NULL;)
        field[count++] = one;
    if (count < 4)
        return false;
    uint64_t size = strtoull(field[2], NULL, 10);
    record->ts = strtod(field[0], NULL);
    record->key = field[1];
    record->key_length = (uint32_t)strlen(field[1]);
    record->size = (uint32_t)(size < 1 ? 1 : size > VALUE_MAX - 512 ? VALUE_MAX - 512 : size);
    record->op = op_of(field[3], strlen(field[3]));
    record->ttl = count == 5 ? (uint32_t)strtoul(field[4], NULL, 10) : 0;
    return record->key_length >= 1 && record->key_length <= KEY_MAX - 2;
}

static void trace_parse(void) {
    size_t length, room = 0;
    char *text = trace_read(&length);
    for (char *line; (line = strsep(&text, "\n")) != NULL;) {
        if (*line == '\0' || strncmp(line, "ts,", 3) == 0)
            continue;
        if (record_count == room) {
            room = room ? room * 2 : 1u << 20;
            if ((records = realloc(records, room * sizeof *records)) == NULL)
                client_die("no memory for the trace");
        }
        if (!record_parse(line, &records[record_count]))
            client_die("line %zu of the trace is not `ts,key,size,op,ttl`", record_count + 2);
        record_count++;
    }
    if (record_count == 0)
        client_die("the trace is empty");
}

/* -- bytes to and from the server -- */

static void out_flush(void) {
    for (size_t sent = 0; sent < out_length;) {
        ssize_t n = send(fd, out + sent, out_length - sent, MSG_NOSIGNAL);
        if (n <= 0)
            client_die("send: %s", strerror(errno));
        sent += (size_t)n;
    }
    out_length = 0;
}

static void in_fill(void) {
    memmove(in, in + in_at, in_end - in_at);
    in_end -= in_at;
    in_at = 0;
    ssize_t n = recv(fd, in + in_end, IN_ROOM - in_end, 0);
    if (n <= 0)
        client_die("the server stopped answering: %s", n < 0 ? strerror(errno) : "end of stream");
    in_end += (size_t)n;
}

/* The next line, NUL instead of its CR LF. Valid until the next call. */
static char *in_line(void) {
    char *newline;
    while ((newline = memchr(in + in_at, '\n', in_end - in_at)) == NULL) {
        if (in_at == 0 && in_end == IN_ROOM)
            client_die("a reply line without an end");
        in_fill();
    }
    char *line = in + in_at;
    in_at = (size_t)(newline + 1 - in);
    newline[newline > line ? -1 : 0] = '\0';
    return line;
}

/* Reads a data block and its CR LF; the value shall begin as the request's key says. */
static void in_value(struct request *request, uint64_t length) {
    size_t compare = length < VERIFY_BYTES ? length : VERIFY_BYTES;
    while (in_end - in_at < compare)
        in_fill();
    if (memcmp(in + in_at, client_value(request->hash), compare) != 0)
        tally.wrong++;
    for (uint64_t left = length + 2; left > 0;) {
        if (in_at == in_end)
            in_fill();
        size_t n = left < in_end - in_at ? left : in_end - in_at;
        in_at += n;
        left -= n;
    }
    request->hit = true;
    tally.hits++;
    tally.hit_bytes += request->size;
}

static void error_note(const char *line) {
    if (tally.errors++ > 0)
        return;
    for (size_t i = 0; i < sizeof tally.first_error - 1 && line[i] != '\0'; i++)
        tally.first_error[i] = line[i] == '"' || line[i] == '\\' ? '.' : line[i];
}

/* -- requests -- */

static void put(const void *bytes, size_t length) {
    memcpy(out + out_length, bytes, length);
    out_length += length;
}

#define PUT(...) (out_length += (size_t)sprintf(out + out_length, __VA_ARGS__))

static void put_redis_word(const char *bytes, size_t length) {
    PUT("$%zu\r\n", length);
    put(bytes, length);
    put("\r\n", 2);
}

static void put_set(const struct request *request) {
    if (config.protocol == PROTOCOL_REDIS) {
        PUT("*%d\r\n$3\r\nSET\r\n", request->ttl ? 5 : 3);
        put_redis_word(request->key, request->key_length);
        put_redis_word(client_value(request->hash), request->size);
        if (request->ttl) {
            char ttl[12];
            put_redis_word("EX", 2);
            put_redis_word(ttl, (size_t)sprintf(ttl, "%u", request->ttl));
        }
    } else {
        put("set ", 4);
        put(request->key, request->key_length);
        PUT(" 0 %u %u noreply\r\n", request->ttl, request->size);
        put(client_value(request->hash), request->size);
        put("\r\n", 2);
    }
    tally.written_bytes += request->size + request->key_length;
    if (out_length >= OUT_FLUSH)
        out_flush();
}

static void put_delete(const struct request *request) {
    if (config.protocol == PROTOCOL_REDIS) {
        PUT("*2\r\n$3\r\nDEL\r\n");
        put_redis_word(request->key, request->key_length);
    } else {
        put("delete ", 7);
        put(request->key, request->key_length);
        PUT(" noreply\r\n");
    }
}

static void put_gets(int gets) {
    if (config.protocol == PROTOCOL_REDIS)
        PUT("*%d\r\n$4\r\nMGET\r\n", gets + 1);
    else
        put("get", 3);
    for (int i = 0; i < batch_count; i++) {
        if (batch[i].op != OP_GET)
            continue;
        if (config.protocol == PROTOCOL_REDIS) {
            put_redis_word(batch[i].key, batch[i].key_length);
        } else {
            put(" ", 1);
            put(batch[i].key, batch[i].key_length);
        }
    }
    if (config.protocol == PROTOCOL_MEMCACHED)
        put("\r\n", 2);
}

static void redis_replies(int writes, int gets) {
    for (; writes > 0; writes--) {
        const char *line = in_line();
        if (line[0] == '-')
            error_note(line);
    }
    if (gets == 0)
        return;
    const char *head = in_line(), *after;
    if (head[0] != '*')
        client_die("MGET was answered with: %s", head);
    for (int i = 0; i < batch_count; i++) {
        if (batch[i].op != OP_GET)
            continue;
        const char *line = in_line();
        if (line[0] == '$' && line[1] != '-')
            in_value(&batch[i], client_number(line + 1, &after));
    }
}

/* The batch's get of this key: values come in the order of the request, with gaps where keys were
 * missed. */
static struct request *batch_find(const char *key, size_t length, int *from) {
    for (int i = *from; i < batch_count; i++) {
        if (batch[i].op == OP_GET && batch[i].key_length == length &&
            memcmp(batch[i].key, key, length) == 0) {
            *from = i + 1;
            return &batch[i];
        }
    }
    client_die("a value that nobody asked for: %.*s", (int)length, key);
}

static void memcached_replies(int gets) {
    int from = 0;
    while (gets > 0) {
        char *line = in_line();
        if (strncmp(line, "VALUE ", 6) == 0) {
            const char *key = line + 6, *space = strchr(key, ' '), *after;
            if (space == NULL)
                client_die("a broken reply: %s", line);
            struct request *request = batch_find(key, (size_t)(space - key), &from);
            client_number(space + 1, &after);
            in_value(request, client_number(after + 1, &after));
        } else if (strcmp(line, "END") == 0) {
            return;
        } else {
            error_note(line); /* a write that was refused in spite of noreply */
        }
    }
}

/* Sends the batch and reads its replies; what was missed waits to be stored with the next. */
static void batch_play(void) {
    int gets = 0, writes = missed_count;
    for (int i = 0; i < missed_count; i++)
        put_set(&missed[i]);
    tally.fills += (uint64_t)missed_count;
    missed_count = 0;
    for (int i = 0; i < batch_count; i++) {
        if (batch[i].op == OP_GET) {
            gets++;
            tally.get_bytes += batch[i].size;
            continue;
        }
        writes++;
        *(batch[i].op == OP_SET ? &tally.sets : &tally.deletes) += 1;
        (batch[i].op == OP_SET ? put_set : put_delete)(&batch[i]);
    }
    tally.gets += (uint64_t)gets;
    if (gets > 0)
        put_gets(gets);
    out_flush();
    if (config.protocol == PROTOCOL_REDIS)
        redis_replies(writes, gets);
    else
        memcached_replies(gets);
    for (int i = 0; i < batch_count; i++)
        if (batch[i].op == OP_GET && !batch[i].hit)
            missed[missed_count++] = batch[i];
    batch_count = 0;
}

static uint64_t key_hash(const char *key, size_t length) {
    uint64_t hash = length;
    for (size_t i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)key[i]) * 0x100000001b3ull;
    return client_hash(hash);
}

static void request_add(const struct record *record, int copy) {
    struct request *request = &batch[batch_count];
    memcpy(request->key, record->key, record->key_length);
    request->key_length = record->key_length;
    if (config.copies > 1) {
        static const char digits[] = "0123456789abcdefghijklmnopqrstuvwxyz";
        request->key[request->key_length++] = digits[copy / 36];
        request->key[request->key_length++] = digits[copy % 36];
    }
    request->hash = key_hash(request->key, request->key_length);
    request->size = record->size;
    request->ttl =
        config.speed > 0 && record->ttl > 0 ? (uint32_t)ceil(record->ttl / config.speed) : 0;
    request->op = record->op;
    request->hit = false;
    for (int i = 0; i < batch_count; i++) {
        if (batch[i].hash == request->hash) {
            struct request again = *request;
            batch_play();
            batch[0] = again;
            break;
        }
    }
    if (++batch_count == config.batch)
        batch_play();
}

/* Waits until the trace's time has come, with nothing left unsent. */
static void pace(double trace_seconds, uint64_t start_ns) {
    uint64_t due_ns = start_ns + (uint64_t)(trace_seconds / config.speed * NS_PER_SECOND),
             now_ns = client_now_ns();
    if (due_ns <= now_ns)
        return;
    batch_play();
    struct timespec rest = {.tv_sec = (time_t)((due_ns - now_ns) / NS_PER_SECOND),
                            .tv_nsec = (long)((due_ns - now_ns) % NS_PER_SECOND)};
    nanosleep(&rest, NULL);
}

static void play(void) {
    uint64_t start_ns = client_now_ns();
    size_t played = 0;
    for (; played < record_count; played++) {
        const struct record *record = &records[played];
        if (config.speed > 0 && played > 0 && record->ts != records[played - 1].ts)
            pace(record->ts - records[0].ts, start_ns);
        for (int copy = 0; copy < config.copies; copy++)
            request_add(record, copy);
        if (played % 64 == 0 &&
            (double)(client_now_ns() - start_ns) / NS_PER_SECOND > config.seconds)
            break;
    }
    batch_play(); /* what is in the batch */
    batch_play(); /* what it missed */
    double seconds = (double)(client_now_ns() - start_ns) / NS_PER_SECOND;
    printf("{\"seconds\": %.3f, \"complete\": %s, \"records\": %zu, \"copies\": %d, \"gets\": "
           "%llu, \"hits\": %llu, "
           "\"miss_ratio\": %.5f, \"byte_miss_ratio\": %.5f, \"sets\": %llu, \"fills\": %llu, "
           "\"deletes\": %llu, "
           "\"written_bytes\": %llu, \"errors\": %llu, \"first_error\": \"%s\", \"wrong\": %llu}\n",
           seconds, played == record_count ? "true" : "false", played, config.copies,
           (unsigned long long)tally.gets, (unsigned long long)tally.hits,
           tally.gets ? 1 - (double)tally.hits / (double)tally.gets : 0.0,
           tally.get_bytes ? 1 - (double)tally.hit_bytes / (double)tally.get_bytes : 0.0,
           (unsigned long long)tally.sets, (unsigned long long)tally.fills,
           (unsigned long long)tally.deletes, (unsigned long long)tally.written_bytes,
           (unsigned long long)tally.errors, tally.first_error, (unsigned long long)tally.wrong);
}

static const struct option options[] = {
    {"host", 1, NULL, 'h'},    {"port", 1, NULL, 'p'},     {"protocol", 1, NULL, 'P'},
    {"copies", 1, NULL, 'c'},  {"batch", 1, NULL, 'b'},    {"speed", 1, NULL, 's'},
    {"seconds", 1, NULL, 'S'}, {"all-gets", 0, NULL, 'a'}, {"help", 0, NULL, 'H'},
    {NULL, 0, NULL, 0},
};

static const char usage_text[] =
    "ebb-replay --port N [options] <TRACE.csv: plays a trace, prints one line of JSON\n"
    "  --host ADDRESS --port N --protocol memcached|redis\n"
    "  --copies N     the trace N times side by side, with keys of their own\n"
    "  --batch N      requests in a batch\n"
    "  --speed S      S seconds of the trace in one; TTLs are divided by it. Without: no pause, no "
    "TTLs\n"
    "  --seconds S    stop after so long\n"
    "  --all-gets     every operation is a look-up, as cache simulators count\n";

static void option_take(int letter) {
    switch (letter) {
    case 'h':
        config.host = optarg;
        break;
    case 'p':
        config.port = (int)client_option_number("port", optarg, 1, 65535);
        break;
    case 'P':
        config.protocol = strcmp(optarg, "redis") == 0 ? PROTOCOL_REDIS : PROTOCOL_MEMCACHED;
        break;
    case 'c':
        config.copies = (int)client_option_number("copies", optarg, 1, COPIES_MAX);
        break;
    case 'b':
        config.batch = (int)client_option_number("batch", optarg, 1, BATCH_MAX);
        break;
    case 's':
        config.speed = strtod(optarg, NULL);
        break;
    case 'S':
        config.seconds = strtod(optarg, NULL);
        break;
    case 'a':
        config.all_gets = true;
        break;
    default:
        break;
    }
}

int main(int argc, char **argv) {
    client_options(argc, argv, options, usage_text, option_take);
    if (config.port == 0)
        client_die("--port is missing; see --help");
    out = client_memory(OUT_ROOM);
    in = client_memory(IN_ROOM);
    client_values_init(VALUE_MAX);
    trace_parse();
    fd = client_connect(config.host, config.port);
    struct timeval silence = {.tv_sec = SILENCE_S};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &silence, sizeof silence);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &silence, sizeof silence);
    play();
    return tally.wrong > 0 ? 1 : 0;
}
