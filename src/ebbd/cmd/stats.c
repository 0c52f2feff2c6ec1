/* stats -- numbers for memcached's tools, by its names; the lines are rows of ../tbl/stats*.def.
 *
 * There are no slabs here. `stats items` and `stats slabs` speak of one class in which a page is a
 * segment; `stats sizes` counts all items when it is asked, so there is nothing to enable.
 *
 * 1. What grows with the cache or with the clients (sizes, cachedump, conns, detail dump) is
 * answered in steps. */
#include "stream.h"

#include "metrics.h"
#include "prefix.h"
#include "proto/number.h"
#include "watchers.h"

#include <ebb/loop.h>
#include <ebb/writer.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define STAT_LINE_MAX 512 /* bytes */
#define PORT_TEXT     8
#define CHUNK         8 /* bytes: what records are multiples of */

#define SINCE(id) ebb_metric_since_reset(&ebb_metric_##id)

/* What the store had counted at the latest `stats reset`. */
static pthread_mutex_t reset_lock = PTHREAD_MUTEX_INITIALIZER;
static struct store_stats reset_stats;

static struct store_stats stats_at_reset(void) {
    pthread_mutex_lock(&reset_lock);
    struct store_stats stats = reset_stats;
    pthread_mutex_unlock(&reset_lock);
    return stats;
}

static void stat_text(struct cmd_context *cmd, const char *name, const char *text) {
    char line[STAT_LINE_MAX];
    int length = snprintf(line, sizeof(line), "STAT %s %s", name, text);
    size_t whole = (size_t)length < sizeof(line) ? (size_t)length : sizeof(line) - 1;
    reply_line(cmd->reply, (struct ebb_span){line, whole});
}

static void stat_number(struct cmd_context *cmd, const char *name, uint64_t number) {
    char text[32];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    stat_text(cmd, name, text);
}

static void stat_time(struct cmd_context *cmd, const char *name, struct timeval time) {
    char text[48];
    snprintf(text, sizeof(text), "%ld.%06ld", (long)time.tv_sec, (long)time.tv_usec);
    stat_text(cmd, name, text);
}

static unsigned log2_of(uint64_t number) {
    return number > 1 ? 63u - (unsigned)__builtin_clzll(number) : 0;
}

static void general(struct cmd_context *cmd) {
    struct store_stats store, reset = stats_at_reset();
    store_stats_read(cmd->shared->store, &store);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#define EBB_STAT_COUNTER(name, sum)       stat_number(cmd, name, sum);
#define EBB_STAT_NUMBER(name, expression) stat_number(cmd, name, expression);
#define EBB_STAT_TEXT(name, text)         stat_text(cmd, name, text);
#define EBB_STAT_TIME(name, time)         stat_time(cmd, name, time);
#define EBB_STAT_VALUE(name, metric)      stat_number(cmd, name, ebb_metric_value(&ebb_metric_##metric));
#define EBB_STAT_STORE(name, member)      stat_number(cmd, name, store.member);
#define EBB_STAT_STORED(name, member)     stat_number(cmd, name, store.member - reset.member);
#include "tbl/stats.def"
}

static void items(struct cmd_context *cmd) {
    struct store_stats store, reset = stats_at_reset();
    store_stats_read(cmd->shared->store, &store);
    if (store.items == 0)
        return;
#define EBB_STAT_COUNTER(name, sum)       stat_number(cmd, name, sum);
#define EBB_STAT_NUMBER(name, expression) stat_number(cmd, name, expression);
#define EBB_STAT_TEXT(name, text)         stat_text(cmd, name, text);
#define EBB_STAT_STORE(name, member)      stat_number(cmd, name, store.member);
#define EBB_STAT_STORED(name, member)     stat_number(cmd, name, store.member - reset.member);
#include "tbl/stats_items.def"
}

static void slabs(struct cmd_context *cmd) {
    struct store_stats store;
    store_stats_read(cmd->shared->store, &store);
#define EBB_STAT_COUNTER(name, sum)       stat_number(cmd, name, sum);
#define EBB_STAT_NUMBER(name, expression) stat_number(cmd, name, expression);
#define EBB_STAT_TEXT(name, text)         stat_text(cmd, name, text);
#define EBB_STAT_STORE(name, member)      stat_number(cmd, name, store.member);
#include "tbl/stats_slabs.def"
}

/* What -l said, as one list. */
static const char *interfaces(const struct settings *settings, char text[STAT_LINE_MAX]) {
    struct ebb_array_writer list;
    ebb_array_writer_init(&list, text, STAT_LINE_MAX);
    for (size_t i = 0; i < settings->listen.count; i++)
        ebb_writef(&list.writer, "%s%s", i > 0 ? "," : "", settings->listen.value[i]);
    return settings->listen.count > 0 ? text : "NULL";
}

static const char *port_text(uint64_t port, char text[PORT_TEXT]) {
    snprintf(text, PORT_TEXT, "%d", port == EBB_PORT_ANY ? -1 : (int)port);
    return text;
}

static void settings(struct cmd_context *cmd) {
    const struct settings *settings = cmd->shared->settings;
    char listened[STAT_LINE_MAX], port[PORT_TEXT];
    struct store_stats store;
    store_stats_read(cmd->shared->store, &store);
#define EBB_STAT_NUMBER(name, expression) stat_number(cmd, name, expression);
#define EBB_STAT_TEXT(name, text)         stat_text(cmd, name, text);
#define EBB_STAT_WORD(name, is)           stat_text(cmd, name, (is) ? "yes" : "no");
#define EBB_STAT_STORE(name, member)      stat_number(cmd, name, store.member);
#include "tbl/stats_settings.def"
}

static enum cmd_result say(struct cmd_context *cmd, struct ebb_span sentence) {
    reply_line(cmd->reply, sentence);
    return CMD_DONE;
}

/* --- answers of many time slices --- */

static enum cmd_step step_prefixes(struct cmd_context *cmd, struct cmd_stream *stream) {
    if (prefix_dump(cmd->reply, &stream->left))
        return CMD_STEP_MORE;
    reply_bytes(cmd->reply, "END\r\n", 5);
    return CMD_STEP_END;
}

static enum cmd_step step_conns(struct cmd_context *cmd, struct cmd_stream *stream) {
    stream->last = cmd->shared->list_conns(cmd, stream->last);
    if (stream->last != 0)
        return CMD_STEP_MORE;
    reply_bytes(cmd->reply, "END\r\n", 5);
    return CMD_STEP_END;
}

static enum cmd_result begin(struct cmd_context *cmd,
                             enum cmd_step (*step)(struct cmd_context *, struct cmd_stream *)) {
    struct cmd_stream *stream = stream_try(cmd);
    if (stream == NULL)
        return CMD_DONE;
    stream->step = step;
    return stream_begin(cmd, stream);
}

static enum cmd_result detail(struct cmd_context *cmd, const struct request *request) {
    struct ebb_span word = request->words > 2 ? request->word[2] : EBB_SPAN("");
    bool on = ebb_span_equal(word, EBB_SPAN("on"));
    if (cmd->shared->settings->disable_dumping)
        return say(cmd, EBB_SPAN("CLIENT_ERROR stats detail not allowed"));
    if (ebb_span_equal(word, EBB_SPAN("dump")))
        return begin(cmd, step_prefixes);
    if (!on && !ebb_span_equal(word, EBB_SPAN("off")))
        return say(cmd, EBB_SPAN("CLIENT_ERROR usage: stats detail on|off|dump"));
    prefix_switch(on);
    return say(cmd, EBB_SPAN("OK"));
}

static enum cmd_result cachedump(struct cmd_context *cmd, const struct request *request) {
    uint32_t class_id, limit;
    if (cmd->shared->settings->disable_dumping)
        return say(cmd, EBB_SPAN("CLIENT_ERROR stats cachedump not allowed"));
    if (request->words < 4)
        return say(cmd, EBB_SPAN("CLIENT_ERROR bad command line"));
    if (!number_u32(request->word[2], &class_id) || !number_u32(request->word[3], &limit))
        return say(cmd, EBB_SPAN("CLIENT_ERROR bad command line format"));
    if (class_id > DUMP_CLASSES_MAX)
        return say(cmd, EBB_SPAN("CLIENT_ERROR Illegal slab id"));
    return dump_cache(cmd, class_id, limit);
}

/* --- the command --- */

static enum cmd_result reset(struct cmd_context *cmd) {
    pthread_mutex_lock(&reset_lock);
    store_stats_read(cmd->shared->store, &reset_stats);
    pthread_mutex_unlock(&reset_lock);
    ebb_metrics_reset();
    prefix_reset();
    return say(cmd, EBB_SPAN("RESET"));
}

/* Those whose answer is a list of lines; false: another word. */
static bool list(struct cmd_context *cmd, struct ebb_span word) {
    if (word.length == 0)
        general(cmd);
    else if (ebb_span_equal(word, EBB_SPAN("settings")))
        settings(cmd);
    else if (ebb_span_equal(word, EBB_SPAN("items")))
        items(cmd);
    else if (ebb_span_equal(word, EBB_SPAN("slabs")))
        slabs(cmd);
    else if (ebb_span_equal(word, EBB_SPAN("sizes_enable")))
        stat_text(cmd, "sizes_status", "enabled");
    else if (ebb_span_equal(word, EBB_SPAN("sizes_disable")))
        stat_text(cmd, "sizes_status", "disabled");
    else
        return ebb_span_equal(word, EBB_SPAN("extstore"));
    return true;
}

enum cmd_result cmd_stats(struct cmd_context *cmd, struct request *request,
                          struct cmd_block *block) {
    (void)block;
    struct ebb_span word = request->words > 1 ? request->word[1] : EBB_SPAN("");
    if (ebb_span_equal(word, EBB_SPAN("reset")))
        return reset(cmd);
    if (ebb_span_equal(word, EBB_SPAN("detail")))
        return detail(cmd, request);
    if (ebb_span_equal(word, EBB_SPAN("cachedump")))
        return cachedump(cmd, request);
    if (ebb_span_equal(word, EBB_SPAN("sizes")))
        return dump_sizes(cmd);
    if (ebb_span_equal(word, EBB_SPAN("conns")) && cmd->shared->list_conns)
        return begin(cmd, step_conns);
    return say(cmd, list(cmd, word) ? EBB_SPAN("END") : EBB_SPAN("ERROR"));
}
