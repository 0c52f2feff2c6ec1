/* binary_stat -- the same lines as the text's stats, each as a frame.
 *
 * The text command writes into a reply of its own; its lines "STAT name value" become frames. So
 * the two can never tell different things, and a new line of stats needs nothing here.
 *
 * 1. An answer that is no list (RESET, OK) is only the frame that ends one. An error is "Not
 * found", as memcached says of words that it does not know.
 * 2. What would not fit into the reply is left out; the frame that ends the list always fits. */
#include "binary_stat.h"

#include <ebb/mem.h>

#define SCRATCH_SIZE (128 * 1024) /* bytes of text that stats may answer with */

/* memcached compares these words' beginnings only. */
static const struct ebb_span by_beginning[] = {EBB_SPAN("reset"), EBB_SPAN("settings"),
                                               EBB_SPAN("detail")};
static const struct ebb_span whole[] = {EBB_SPAN(""), EBB_SPAN("items"), EBB_SPAN("slabs"),
                                        EBB_SPAN("sizes")};

static bool begins(struct ebb_span text, struct ebb_span with) {
    return text.length >= with.length && memcmp(text.at, with.at, with.length) == 0;
}

/* The word after stats; false: one that memcached does not know in binary. */
static bool find_word(struct ebb_span key, struct ebb_span *word) {
    for (size_t i = 0; i < sizeof(by_beginning) / sizeof(by_beginning[0]); i++)
        if (begins(key, by_beginning[i])) {
            *word = by_beginning[i];
            return true;
        }
    *word = key;
    for (size_t i = 0; i < sizeof(whole) / sizeof(whole[0]); i++)
        if (ebb_span_equal(key, whole[i]))
            return true;
    return false;
}

static bool has_room(const struct reply *reply, size_t bytes) {
    return reply->size - reply->used > bytes + 2 * BINARY_HEADER;
}

static void add_stat(struct cmd_context *cmd, const struct binary *frame, struct ebb_span name,
                     struct ebb_span value) {
    if (!has_room(cmd->reply, name.length + value.length))
        return;
    struct binary_body body = {.key = (uint16_t)name.length, .value = value.length};
    binary_reply_head(cmd->reply, &frame->origin, BINARY_OK, body, 0);
    reply_bytes(cmd->reply, name.at, name.length);
    reply_bytes(cmd->reply, value.at, value.length);
}

/* "STAT name value" to a frame. */
static void add_line(struct cmd_context *cmd, const struct binary *frame, struct ebb_span line) {
    const struct ebb_span stat = EBB_SPAN("STAT ");
    struct ebb_span name, rest = {line.at + stat.length, line.length - stat.length};
    if (!begins(line, stat) || !request_next_key(&rest, &name))
        return;
    if (rest.length > 0) /* the blank */
        rest = (struct ebb_span){rest.at + 1, rest.length - 1};
    add_stat(cmd, frame, name, rest);
}

static void add_lines(struct cmd_context *cmd, const struct binary *frame, struct ebb_span text) {
    while (text.length > 0) {
        const char *end = memchr(text.at, '\n', text.length);
        size_t length = end ? (size_t)(end - text.at) : text.length;
        size_t line = length > 0 && text.at[length - 1] == '\r' ? length - 1 : length;
        add_line(cmd, frame, (struct ebb_span){text.at, line});
        length += end ? 1 : 0;
        text = (struct ebb_span){text.at + length, text.length - length};
    }
}

/* detail's second word, with the blank that memcached wants before it. */
static struct ebb_span second_word(struct ebb_span key, struct ebb_span word) {
    static const struct ebb_span words[] = {EBB_SPAN(" dump"), EBB_SPAN(" on"), EBB_SPAN(" off")};
    struct ebb_span rest = {key.at + word.length, key.length - word.length};
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++)
        if (begins(rest, words[i]))
            return (struct ebb_span){words[i].at + 1, words[i].length - 1};
    return EBB_SPAN("");
}

/* Answers of many time slices are taken at once, as far as they fit. */
static void run(struct cmd_context *inner, struct request *request) {
    if (cmd_stats(inner, request, NULL) != CMD_STREAM)
        return;
    struct cmd_stream *stream = inner->stream;
    while (!reply_full(inner->reply) && cmd_stream_step(inner, stream) == CMD_STEP_MORE)
        continue;
    cmd_stream_close(stream);
}

void binary_stat(struct cmd_context *cmd, const struct binary *frame) {
    struct ebb_span word;
    bool known = find_word(frame->key, &word);
    struct reply scratch = {.text = ebb_try_bytes(SCRATCH_SIZE), .size = SCRATCH_SIZE};
    if (scratch.text == NULL) {
        binary_reply_error(cmd->reply, &frame->origin, BINARY_NO_MEMORY, EBB_SPAN(""));
        return;
    }
    struct cmd_context inner = *cmd;
    inner.reply = &scratch;
    struct request request = {.verb = REQUEST_stats, .words = word.length > 0 ? 2 : 1};
    request.word[1] = word;
    if (ebb_span_equal(word, EBB_SPAN("detail"))) {
        request.word[2] = second_word(frame->key, word);
        request.words = request.word[2].length > 0 ? 3 : 2;
    }
    if (known)
        run(&inner, &request);
    struct ebb_span text = {scratch.text, scratch.used};
    if (begins(text, EBB_SPAN("SERVER_ERROR"))) {
        binary_reply_error(cmd->reply, &frame->origin, BINARY_NO_MEMORY, EBB_SPAN(""));
        return;
    }
    if (!known || begins(text, EBB_SPAN("ERROR")) || begins(text, EBB_SPAN("CLIENT_ERROR"))) {
        binary_reply_error(cmd->reply, &frame->origin, BINARY_NOT_FOUND, EBB_SPAN(""));
        return;
    }
    if (ebb_span_equal(request.word[2], EBB_SPAN("dump")))
        add_stat(cmd, frame, EBB_SPAN("detailed"), text);
    else
        add_lines(cmd, frame, text);
    binary_reply_head(cmd->reply, &frame->origin, BINARY_OK, (struct binary_body){0}, 0);
}
