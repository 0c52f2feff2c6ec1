/* binary -- bytes to frames, answers to bytes.
 *
 * memcached takes header, extras and key as one piece, so a frame is looked at when these are
 * there; a value is read afterwards, to its place. What it checks, and in which order, shows in the
 * errors: magic, lengths that add up, the body's and the key's, then the shape that the opcode's
 * row asks for. All of these but an unknown opcode end the connection, because nobody knows where
 * the next frame begins.
 *
 * 1. A struct binary points into the input; it is valid until that moves.
 * 2. An unknown opcode passes over its whole body. memcached forgets that extras and key are
 * already read, and eats as many bytes of the frame behind; here the next frame stays whole. */
#include "binary.h"

#include <ebb/assert.h>

#define ANSWER_MAGIC 0x81
#define OPCODES      256

enum key_rule { KEY_NONE, KEY_SOME, KEY_ANY };
enum rest_rule { REST_NOTHING, REST_MORE };

struct opcode_row {
    bool known, quiet;
    uint8_t extras, extras_or;
    enum key_rule key;
    enum rest_rule rest;
    enum request_verb verb;
};

static const struct opcode_row opcodes[OPCODES] = {
#define EBB_OPCODE(id, opcode, quiet, extras, extras_or, key, rest, function, verb, help)          \
    [opcode] = {true, quiet, extras, extras_or, KEY_##key, REST_##rest, REQUEST_##verb},
#include "tbl/opcodes.def"
};

static uint64_t read_number(const char *at, int bytes) {
    uint64_t number = 0;
    for (int i = 0; i < bytes; i++)
        number = number << 8 | (unsigned char)at[i];
    return number;
}

static void write_number(char *at, uint64_t number, int bytes) {
    for (int i = bytes - 1; i >= 0; i--, number >>= 8)
        at[i] = (char)number;
}

enum binary_found binary_find(const char *at, size_t length, struct binary *frame, size_t *taken) {
    if (length < BINARY_HEADER)
        return BINARY_MORE;
    if ((unsigned char)at[0] != BINARY_MAGIC)
        return BINARY_BAD;
    frame->extras_length = (uint8_t)at[4];
    frame->key.length = read_number(at + 2, 2);
    *taken = BINARY_HEADER + frame->extras_length + frame->key.length;
    if (*taken > BINARY_HEAD_MAX)
        return length > BINARY_HEAD_MAX ? BINARY_BAD : BINARY_MORE;
    if (length < *taken)
        return BINARY_MORE;
    uint8_t opcode = (uint8_t)at[1];
    frame->origin =
        (struct binary_origin){.opcode = opcode, .quiet = opcodes[opcode].quiet, .is = true};
    memcpy(&frame->origin.opaque, at + 12, sizeof(frame->origin.opaque));
    frame->verb = opcodes[opcode].known ? opcodes[opcode].verb : REQUEST_NONE;
    frame->body_length = (uint32_t)read_number(at + 8, 4);
    frame->cas = read_number(at + 16, 8);
    frame->extras = at + BINARY_HEADER;
    frame->key.at = frame->extras + frame->extras_length;
    return BINARY_FRAME;
}

enum binary_status binary_check(const struct binary *frame, bool *closes) {
    const struct opcode_row *row = &opcodes[frame->origin.opcode];
    *closes = true;
    if (frame->key.length + frame->extras_length > frame->body_length)
        return BINARY_UNKNOWN;
    if (frame->body_length > BINARY_BODY_MAX || frame->key.length > REQUEST_KEY_MAX)
        return BINARY_INVALID;
    if (!row->known) {
        *closes = false;
        return BINARY_UNKNOWN;
    }
    bool key = row->key == KEY_ANY || (frame->key.length > 0) == (row->key == KEY_SOME);
    bool extras = frame->extras_length == row->extras || frame->extras_length == row->extras_or;
    bool rest = row->rest == REST_MORE || binary_value_length(frame) == 0;
    return key && extras && rest ? BINARY_OK : BINARY_INVALID;
}

uint32_t binary_u32(const struct binary *frame, size_t offset) {
    ebb_assert(offset + 4 <= frame->extras_length, "offset %zu", offset);
    return (uint32_t)read_number(frame->extras + offset, 4);
}

uint64_t binary_u64(const struct binary *frame, size_t offset) {
    ebb_assert(offset + 8 <= frame->extras_length, "offset %zu", offset);
    return read_number(frame->extras + offset, 8);
}

void binary_reply_head(struct reply *reply, const struct binary_origin *origin,
                       enum binary_status status, struct binary_body body, uint64_t cas) {
    char head[BINARY_HEADER];
    head[0] = (char)ANSWER_MAGIC;
    head[1] = (char)origin->opcode;
    write_number(head + 2, body.key, 2);
    head[4] = (char)body.extras;
    head[5] = 0; /* data type */
    write_number(head + 6, status, 2);
    write_number(head + 8, body.extras + body.key + body.value, 4);
    memcpy(head + 12, &origin->opaque, sizeof(origin->opaque));
    write_number(head + 16, cas, 8);
    reply_bytes(reply, head, sizeof(head));
}

void binary_reply_u32(struct reply *reply, uint32_t number) {
    char bytes[4];
    write_number(bytes, number, sizeof(bytes));
    reply_bytes(reply, bytes, sizeof(bytes));
}

void binary_reply_u64(struct reply *reply, uint64_t number) {
    char bytes[8];
    write_number(bytes, number, sizeof(bytes));
    reply_bytes(reply, bytes, sizeof(bytes));
}

static struct ebb_span usual_sentence(enum binary_status status) {
    switch (status) {
    case BINARY_NOT_FOUND:
        return EBB_SPAN("Not found");
    case BINARY_EXISTS:
        return EBB_SPAN("Data exists for key.");
    case BINARY_TOO_LARGE:
        return EBB_SPAN("Too large.");
    case BINARY_INVALID:
        return EBB_SPAN("Invalid arguments");
    case BINARY_NOT_STORED:
        return EBB_SPAN("Not stored.");
    case BINARY_NOT_NUMERIC:
        return EBB_SPAN("Non-numeric server-side value for incr or decr");
    case BINARY_NOT_ALLOWED:
        return EBB_SPAN("Auth failure.");
    case BINARY_NO_MEMORY:
        return EBB_SPAN("Out of memory");
    default:
        return EBB_SPAN("Unknown command");
    }
}

void binary_reply_error(struct reply *reply, const struct binary_origin *origin,
                        enum binary_status status, struct ebb_span sentence) {
    if (sentence.length == 0)
        sentence = usual_sentence(status);
    binary_reply_head(reply, origin, status, (struct binary_body){.value = sentence.length}, 0);
    reply_bytes(reply, sentence.at, sentence.length);
}
