/* stream -- what all long answers share. */
#include "stream.h"

#define ITEM_HEADER 56 /* bytes: memcached's item with a cas number */
#define ITEM_FLAGS  4
#define ITEM_ENDS   3 /* the key's NUL, the value's CRLF */

enum cmd_result stream_begin(struct cmd_turn *turn, struct cmd_stream *stream) {
    turn->stream = stream;
    return CMD_STREAM;
}

enum cmd_step cmd_stream_step(struct cmd_turn *turn, struct cmd_stream *stream) {
    stream->turn = turn;
    enum cmd_step step = stream->step(turn, stream);
    stream->turn = NULL;
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

size_t stream_item_size(struct ebb_span key, const struct store_item *item) {
    return ITEM_HEADER + (item->client_flags ? ITEM_FLAGS : 0) + key.length + item->value_length +
           ITEM_ENDS;
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
