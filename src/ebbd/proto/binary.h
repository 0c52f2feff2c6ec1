/* binary -- frames of memcached's binary protocol as structs, answers as frames.
 *
 * A frame is a header of 24 bytes, extras, a key, a value; numbers are big-endian. Rows in
 * ../tbl/opcodes.def. */
#ifndef EBBD_PROTO_BINARY_H
#define EBBD_PROTO_BINARY_H

#include "reply.h"
#include "request.h"

#include <stdbool.h>

#define BINARY_MAGIC     0x80        /* first byte of a request; no text command begins with it */
#define BINARY_HEADER    24          /* bytes */
#define BINARY_HEAD_MAX  16384       /* bytes of header, extras and key: memcached's read buffer */
#define BINARY_BODY_MAX  (1u << 30)  /* bytes: no item is larger, so nobody means it */
#define BINARY_NO_CREATE 0xffffffffu /* expiration of increment: do not make what is missing */

enum binary_opcode {
#define EBB_OPCODE(id, opcode, ...) BINARY_##id = opcode,
#include "tbl/opcodes.def"
};

enum binary_status {
    BINARY_OK = 0x00,
    BINARY_NOT_FOUND = 0x01,
    BINARY_EXISTS = 0x02,
    BINARY_TOO_LARGE = 0x03,
    BINARY_INVALID = 0x04,
    BINARY_NOT_STORED = 0x05,
    BINARY_NOT_NUMERIC = 0x06,
    BINARY_NOT_ALLOWED = 0x20,
    BINARY_UNKNOWN = 0x81,
    BINARY_NO_MEMORY = 0x82,
};

/* What an answer repeats of its request. */
struct binary_origin {
    uint8_t opcode;
    bool quiet;
    bool is;         /* the request came in binary at all */
    uint32_t opaque; /* as it came */
};

struct binary {
    struct binary_origin origin;
    uint8_t extras_length;
    uint32_t body_length; /* extras, key and value */
    uint64_t cas;
    const char *extras;
    struct ebb_span key;
    enum request_verb verb; /* the text command it counts as; REQUEST_NONE: an unknown opcode */
};

enum binary_found {
    BINARY_FRAME, /* header, extras and key are there; the value may not be */
    BINARY_MORE,  /* more bytes are needed */
    BINARY_BAD,   /* no frame, or a longer head than memcached takes: close the connection */
};
/* Reads the frame at the start of [at, at + length); *taken: bytes up to the value. */
enum binary_found binary_find(const char *at, size_t length, struct binary *frame, size_t *taken);

/* BINARY_OK, or the error to answer. *closes: and then to close. */
enum binary_status binary_check(const struct binary *frame, bool *closes);

/* Bytes behind extras and key. */
static inline size_t binary_value_length(const struct binary *frame) {
    return frame->body_length - frame->extras_length - frame->key.length;
}

/* The extras' big-endian number of 4 or 8 bytes at offset. */
uint32_t binary_u32(const struct binary *frame, size_t offset);
uint64_t binary_u64(const struct binary *frame, size_t offset);

/* The lengths of an answer's parts. */
struct binary_body {
    uint8_t extras;
    uint16_t key;
    size_t value;
};
void binary_reply_head(struct reply *reply, const struct binary_origin *origin,
                       enum binary_status status, struct binary_body body, uint64_t cas);
void binary_reply_u32(struct reply *reply, uint32_t number);
void binary_reply_u64(struct reply *reply, uint64_t number);
/* An error with its sentence; sentence empty: the usual one of the status. */
void binary_reply_error(struct reply *reply, const struct binary_origin *origin,
                        enum binary_status status, struct ebb_span sentence);

#endif
