/* meta -- the line of a meta command (mg ms md ma) as a struct; memcached 1.6.45's rules. */
#ifndef EBBD_PROTO_META_H
#define EBBD_PROTO_META_H

#include "request.h"

#define META_FLAGS_MAX  18 /* of a line */
#define META_OPAQUE_MAX 32 /* bytes of an O flag, the O included */

#define META_MODE_NONE '?' /* of an M without a letter: no command has it */

#define META_FLAG(letter) ((uint64_t)1 << ((letter)-64))

struct meta {
    struct ebb_span error; /* not empty: answer this */
    bool has_block;        /* ms: value_length is known, so a block follows even after an error */
    bool key_is_base64;
    char mode;           /* first letter of the M flag's token; 0: no such flag */
    unsigned flags;      /* how many */
    unsigned shown;      /* those before an opaque that is too long: the others are never reached */
    uint64_t has;        /* META_FLAG of all flags */
    uint64_t reached;    /* META_FLAG of those that are reached */
    struct ebb_span key; /* decoded: points into the line or into `decoded` */
    size_t value_length; /* ms: bytes of the block, without its CRLF */
    int32_t ttl, vivify_ttl, recache_ttl; /* T, N, R */
    uint32_t client_flags;                /* F */
    uint64_t cas, delta, initial;         /* C, D (1 without), J */
    uint64_t cas_new;                     /* E; 0: a fresh one */
    struct ebb_span flag[META_FLAGS_MAX]; /* in their order, letter and token */
    char decoded[REQUEST_KEY_MAX];
};

/* rest: the line behind the command's name. verb: REQUEST_mg, ms, md or ma. */
void meta_parse(enum request_verb verb, struct ebb_span rest, struct meta *meta);
/* For `me`, which reads its line in its own way: *key is decoded into room. False: a bad line. */
bool meta_parse_debug(struct ebb_span rest, struct ebb_span *key,
                      char reservation[REQUEST_KEY_MAX]);

static inline bool meta_has(const struct meta *meta, char letter) {
    return (meta->has & META_FLAG(letter)) != 0;
}

/* An opaque came that is too long. memcached notices when it answers, so after the work is done. */
static inline bool meta_is_cut(const struct meta *meta) {
    return meta->shown < meta->flags;
}

extern const struct ebb_span meta_error_opaque;

#endif
