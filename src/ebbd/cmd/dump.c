/* dump -- what walks over all items, in steps: lru_crawler metadump and mgdump, stats sizes and
 * cachedump; and the other words of lru_crawler, lru and slabs.
 *
 * There are no slabs, no LRU lists and no crawler here. For tools there is one class, 1,
 * that holds all items. What tunes
 * slabs and lists is checked as memcached checks it, answered, and changes nothing.
 *
 * 1. No key breaks a line: one that cannot stand there is shown encoded, or not at all, however it
 * came.
 * 2. A step looks at STEP_RECORDS records at most and leaves when the reply is full, so a dump of
 * any size takes neither much memory nor long time slices. */
#include "stream.h"

#include "proto/number.h"

#include <stdio.h>
#include <ebb/base64.h>

#define STEP_RECORDS 512
#define LINE_MAX     1024 /* bytes: a key of 750, and numbers */

#define SIZE_STEP 32 /* bytes that a line of the histogram stands for */
#define SIZES     (1 << 15)
#define SLEEP_MAX 1000000 /* microseconds */
#define TUNE_MAX  80

#define WINDOW_MIN 3 /* of slabs automove, in samples */
#define WINDOW_MAX 1800

static bool see(struct ebb_span key, const struct store_item *item, void *context) {
    struct cmd_stream *stream = context;
    return stream->show(stream, key, item) && !reply_full(stream->cmd->reply);
}

/* True: there is more. */
static bool look(struct cmd_context *cmd, struct cmd_stream *stream) {
    return store_scan(cmd->shared->store, &stream->scan, cmd->now, STEP_RECORDS, see, stream);
}

/* --- lines --- */

static bool show_meta(struct cmd_stream *stream, struct ebb_span key,
                      const struct store_item *item) {
    const struct cmd_context *cmd = stream->cmd;
    int64_t unix_start = cmd->shared->clock.unix_start;
    char line[LINE_MAX] = "key=";
    char *at = stream_write_uri(line + 4, key);
    at += snprintf(at, (size_t)(line + LINE_MAX - at),
                   " exp=%lld la=%lld cas=%llu fetch=%s cls=1 size=%zu flags=%u \n",
                   item->expires == 0 ? -1LL : (long long)(item->expires + unix_start),
                   (long long)(item->last_access + unix_start), (unsigned long long)item->cas,
                   item->item_flags & STORE_FETCHED ? "yes" : "no",
                   cmd_item_size(key.length, item->client_flags, item->value_length),
                   item->client_flags);
    reply_bytes(cmd->reply, line, (size_t)(at - line));
    return true;
}

static bool show_get(struct cmd_stream *stream, struct ebb_span key,
                     const struct store_item *item) {
    struct reply *reply = stream->cmd->reply;
    bool encoded = (item->item_flags & STORE_KEY_BASE64) || !request_is_word(key);
    char *at = reply->text + reply->used;
    memcpy(at, "mg ", 3);
    if (encoded)
        at = ebb_base64_write(at + 3, key);
    else
        at = (char *)memcpy(at + 3, key.at, key.length) + key.length;
    reply->used = (size_t)(at - reply->text);
    reply_line(reply, encoded ? EBB_SPAN(" b") : EBB_SPAN(""));
    return true;
}

static bool show_cache(struct cmd_stream *stream, struct ebb_span key,
                       const struct store_item *item) {
    char line[LINE_MAX];
    if ((item->item_flags & STORE_KEY_BASE64) || !request_is_word(key))
        return true;
    int64_t unix_start = stream->cmd->shared->clock.unix_start;
    int length = snprintf(line, sizeof(line), " [%zu b; %lld s]\r\n", item->value_length,
                          item->expires == 0 ? 0LL : (long long)(item->expires + unix_start));
    reply_bytes(stream->cmd->reply, "ITEM ", 5);
    reply_bytes(stream->cmd->reply, key.at, key.length);
    reply_bytes(stream->cmd->reply, line, (size_t)length);
    return --stream->left > 0;
}

static bool show_size(struct cmd_stream *stream, struct ebb_span key,
                      const struct store_item *item) {
    size_t at =
        (cmd_item_size(key.length, item->client_flags, item->value_length) + SIZE_STEP - 1) /
        SIZE_STEP;
    stream->sizes[at < SIZES ? at : SIZES - 1]++;
    return true;
}

/* --- streams --- */

static enum cmd_step step_dump(struct cmd_context *cmd, struct cmd_stream *stream) {
    if (stream->left > 0 && look(cmd, stream))
        return CMD_STEP_MORE;
    reply_line(cmd->reply, stream->show == show_get ? EBB_SPAN("EN") : EBB_SPAN("END"));
    return CMD_STEP_END;
}

static enum cmd_step step_sizes(struct cmd_context *cmd, struct cmd_stream *stream) {
    if (stream->left == 0) {
        if (!look(cmd, stream))
            stream->left = 1;
        return CMD_STEP_MORE;
    }
    for (; stream->left < SIZES && !reply_full(cmd->reply); stream->left++) {
        char line[64];
        if (stream->sizes[stream->left] == 0)
            continue;
        int length = snprintf(line, sizeof(line), "STAT %u %u\r\n", stream->left * SIZE_STEP,
                              stream->sizes[stream->left]);
        reply_bytes(cmd->reply, line, (size_t)length);
    }
    if (stream->left < SIZES)
        return CMD_STEP_MORE;
    reply_line(cmd->reply, EBB_SPAN("END"));
    return CMD_STEP_END;
}

/* NULL: there is no memory, and that is the answer. */
static struct cmd_stream *dump_try(struct cmd_context *cmd) {
    struct cmd_stream *stream = stream_try(cmd);
    if (stream != NULL) {
        stream->step = step_dump;
        stream->left = UINT32_MAX;
    }
    return stream;
}

enum cmd_result dump_sizes(struct cmd_context *cmd) {
    void *sizes = ebb_try_bytes(SIZES * sizeof(uint32_t));
    if (sizes == NULL) {
        reply_line(cmd->reply, EBB_SPAN("SERVER_ERROR out of memory writing stats"));
        return CMD_DONE;
    }
    memset(sizes, 0, SIZES * sizeof(uint32_t));
    struct cmd_stream *stream = dump_try(cmd);
    if (stream == NULL)
        return CMD_DONE;
    stream->step = step_sizes;
    stream->show = show_size;
    stream->sizes = sizes;
    stream->left = 0;
    return stream_begin(cmd, stream);
}

enum cmd_result dump_cache(struct cmd_context *cmd, uint32_t class_id, uint32_t limit) {
    struct cmd_stream *stream = dump_try(cmd);
    if (stream == NULL)
        return CMD_DONE;
    stream->show = show_cache;
    stream->left = class_id != 1 ? 0 : limit == 0 ? UINT32_MAX : limit;
    return stream_begin(cmd, stream);
}

/* --- lru_crawler --- */

/* "all", "hash", or classes with commas. False: no such class. *ours: the one class is among them.
 */
static bool read_classes(struct ebb_span text, bool *ours) {
    *ours = ebb_span_equal(text, EBB_SPAN("all")) || ebb_span_equal(text, EBB_SPAN("hash"));
    if (*ours)
        return true;
    const char *end = text.at + text.length;
    for (const char *at = text.at; at < end;) {
        const char *comma = memchr(at, ',', (size_t)(end - at));
        struct ebb_span word = {at, (size_t)((comma ? comma : end) - at)};
        uint32_t number = 0;
        if (word.length > 0 &&
            (!number_u32(word, &number) || number == 0 || number > DUMP_CLASSES_MAX))
            return false;
        *ours |= number == 1;
        at = comma ? comma + 1 : end;
    }
    return true;
}

static enum cmd_result say(struct cmd_context *cmd, struct ebb_span sentence) {
    reply_line(cmd->reply, sentence);
    return CMD_DONE;
}

static enum cmd_result crawl(struct cmd_context *cmd, const struct request *request) {
    struct ebb_span what = request->word[1];
    bool ours, gets = ebb_span_equal(what, EBB_SPAN("mgdump"));
    bool dumps = gets || ebb_span_equal(what, EBB_SPAN("metadump"));
    if (dumps && cmd->shared->settings->disable_dumping)
        return say(cmd, gets ? EBB_SPAN("ERROR key dump not allowed")
                             : EBB_SPAN("ERROR metadump not allowed"));
    if (!read_classes(request->word[2], &ours))
        return say(cmd, EBB_SPAN("BADCLASS invalid class id"));
    if (!dumps)
        return say(cmd, EBB_SPAN("OK"));
    struct cmd_stream *stream = dump_try(cmd);
    if (stream == NULL)
        return CMD_DONE;
    reply_line(cmd->reply, EBB_SPAN("OK"));
    stream->show = gets ? show_get : show_meta;
    if (!ours)
        stream->left = 0;
    return stream_begin(cmd, stream);
}

static enum cmd_result crawler_number(struct cmd_context *cmd, const struct request *request,
                                      bool sleeps) {
    uint32_t number;
    if (!number_u32(request->word[2], &number))
        return say(cmd, EBB_SPAN("CLIENT_ERROR bad command line format"));
    if (sleeps && number > SLEEP_MAX)
        return say(cmd, EBB_SPAN("CLIENT_ERROR sleep must be one second or less"));
    return say(cmd, EBB_SPAN("OK"));
}

static bool is(struct ebb_span word, const char *text) {
    return ebb_span_equal(word, ebb_span_of(text));
}

enum cmd_result cmd_lru_crawler(struct cmd_context *cmd, struct request *request,
                                struct cmd_block *block) {
    (void)block;
    struct ebb_span what = request->words > 1 ? request->word[1] : EBB_SPAN("");
    if (request->words == 2 && (is(what, "enable") || is(what, "disable")))
        return say(cmd, EBB_SPAN("OK"));
    if (request->words != 3)
        return say(cmd, EBB_SPAN("ERROR"));
    if (is(what, "crawl") || is(what, "metadump") || is(what, "mgdump"))
        return crawl(cmd, request);
    if (is(what, "sleep") || is(what, "tocrawl"))
        return crawler_number(cmd, request, is(what, "sleep"));
    return say(cmd, EBB_SPAN("ERROR"));
}

/* --- lru, slabs: checked, and nothing to do --- */

static struct ebb_span tune(const struct request *request) {
    uint32_t hot, warm;
    double hot_factor, warm_factor;
    if (!number_u32(request->word[2], &hot) || !number_u32(request->word[3], &warm) ||
        !number_real(request->word[4], &hot_factor) || !number_real(request->word[5], &warm_factor))
        return EBB_SPAN("ERROR");
    if (hot + warm > TUNE_MAX)
        return EBB_SPAN("ERROR hot and warm pcts must not exceed 80");
    if (hot_factor <= 0 || warm_factor <= 0)
        return EBB_SPAN("ERROR hot/warm age factors must be greater than 0");
    return EBB_SPAN("OK");
}

enum cmd_result cmd_lru(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    (void)block;
    struct ebb_span what = request->word[1], answer = EBB_SPAN("ERROR");
    int32_t ttl;
    if (is(what, "tune") && request->words >= 6)
        answer = tune(request);
    else if (is(what, "mode") && request->words >= 3 &&
             (is(request->word[2], "flat") || is(request->word[2], "segmented")))
        answer = EBB_SPAN("OK");
    else if (is(what, "temp_ttl") && request->words >= 3 && number_i32(request->word[2], &ttl))
        answer = EBB_SPAN("OK");
    cmd_answer(cmd, request->noreply, answer);
    return CMD_DONE;
}

static struct ebb_span automove(const struct request *request) {
    uint32_t level;
    double ratio;
    if (is(request->word[2], "ratio") || is(request->word[2], "freeratio"))
        return request->words >= 4 && number_real(request->word[3], &ratio) ? EBB_SPAN("OK")
                                                                            : EBB_SPAN("ERROR");
    if (is(request->word[2], "window")) {
        if (request->words < 4 || !number_u32(request->word[3], &level))
            return EBB_SPAN("CLIENT_ERROR bad command line format");
        return level < WINDOW_MIN || level > WINDOW_MAX
                   ? EBB_SPAN("CLIENT_ERROR automove window too low or too high")
                   : EBB_SPAN("OK");
    }
    if (!number_u32(request->word[2], &level))
        return EBB_SPAN("CLIENT_ERROR bad command line format");
    return level <= 2 ? EBB_SPAN("OK") : EBB_SPAN("ERROR");
}

static struct ebb_span reassign(const struct request *request) {
    int32_t from, to;
    if (!number_i32(request->word[2], &from) || !number_i32(request->word[3], &to))
        return EBB_SPAN("CLIENT_ERROR bad command line format");
    if (from == to)
        return EBB_SPAN("SAME src and dst class are identical");
    return from < -1 || from > 2 || to < 0 || to > 2
               ? EBB_SPAN("BADCLASS invalid src or dst class id")
               : EBB_SPAN("NOSPARE source class has no spare pages");
}

enum cmd_result cmd_slabs(struct cmd_context *cmd, struct request *request,
                          struct cmd_block *block) {
    (void)block;
    struct ebb_span what = request->words > 1 ? request->word[1] : EBB_SPAN("");
    if (request->words == 4 && is(what, "reassign"))
        return say(cmd, reassign(request));
    if (request->words >= 3 && is(what, "automove")) {
        cmd_answer(cmd, request->noreply, automove(request));
        return CMD_DONE;
    }
    return say(cmd, EBB_SPAN("ERROR"));
}
