/* stream -- what all long answers share. */
#include "stream.h"

struct cmd_stream *stream_try(struct cmd_context *cmd) {
    struct cmd_stream *stream = ebb_try_sized(&ebb_type_cmd_stream, sizeof(*stream));
    if (stream == NULL)
        reply_line(cmd->reply, EBB_SPAN("SERVER_ERROR out of memory"));
    return stream;
}

enum cmd_result stream_begin(struct cmd_context *cmd, struct cmd_stream *stream) {
    cmd->stream = stream;
    return CMD_STREAM;
}

enum cmd_step cmd_stream_step(struct cmd_context *cmd, struct cmd_stream *stream) {
    stream->cmd = cmd;
    enum cmd_step step = stream->step(cmd, stream);
    stream->cmd = NULL;
    return step;
}

void cmd_stream_close(struct cmd_stream *stream) {
    if (stream == NULL)
        return;
    if (stream->close)
        stream->close(stream);
    stream->sizes = NULL;
    ebb_done(stream);
}

static bool is_plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == '~';
}

char *stream_write_uri(char *at, struct ebb_span key) {
    static const char hex[] = "0123456789ABCDEF";
    for (size_t i = 0; i < key.length; i++) {
        unsigned char byte = (unsigned char)key.at[i];
        if (is_plain(key.at[i])) {
            *at++ = key.at[i];
            continue;
        }
        *at++ = '%';
        *at++ = hex[byte >> 4];
        *at++ = hex[byte & 15];
    }
    return at;
}
