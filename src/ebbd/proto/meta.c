/* meta -- from a line to a struct.
 *
 * A line is: key, for ms the length of the block, flags. A flag is a letter with a token behind it.
 * All flags are known to all commands; each takes what it has use for.
 *
 * 1. The order of checks is memcached's: number of words, length of the key, the block's length,
 * number of flags, then flag by flag. An unknown or repeated flag ends the reading; a bad token
 * only notes its error, so the last bad one is told.
 * 2. Once the length of a block is known the block is swallowed, whatever else is wrong. */
#include "meta.h"

#include "number.h"
#include <ebb/base64.h>

#define WORDS_MAX 20 /* the name included */

const struct ebb_span meta_error_opaque = EBB_SPAN("CLIENT_ERROR opaque token too long");
static const struct ebb_span error_format = EBB_SPAN("CLIENT_ERROR bad command line format");
static const struct ebb_span error_token =
    EBB_SPAN("CLIENT_ERROR bad token in command line format");
static const struct ebb_span error_flags = EBB_SPAN("CLIENT_ERROR invalid or duplicate flag");

/* Decodes the key in place of its text. */
static bool decode_key(struct meta *meta) {
    size_t length = ebb_base64_decode(meta->key, meta->decoded);
    meta->key = (struct ebb_span){meta->decoded, length};
    meta->key_is_base64 = true;
    return length > 0;
}

/* A flag's token; false: it is wrong, *error says how (unset: as the line's format). */
static bool read_token(struct meta *meta, char letter, struct ebb_span token,
                       struct ebb_span *error) {
    switch (letter) {
    case 'b':
        *error = EBB_SPAN("CLIENT_ERROR error decoding key");
        return decode_key(meta);
    case 'N':
        *error = error_token;
        return number_exact_i32(token, &meta->vivify_ttl);
    case 'T':
        *error = error_token;
        return number_exact_i32(token, &meta->ttl);
    case 'R':
        *error = error_token;
        return number_exact_i32(token, &meta->recache_ttl);
    case 'C':
        *error = error_token;
        return number_exact_u64(token, &meta->cas);
    case 'E':
        *error = error_token;
        return number_exact_u64(token, &meta->cas_new);
    case 'F':
        return number_exact_u32(token, &meta->client_flags);
    case 'M':
        meta->mode = token.length > 0 ? token.at[0] : META_MODE_NONE;
        return true;
    case 'J':
        *error = EBB_SPAN("CLIENT_ERROR invalid numeric initial value");
        return number_exact_u64(token, &meta->initial);
    case 'D':
        *error = EBB_SPAN("CLIENT_ERROR invalid numeric delta value");
        return number_exact_u64(token, &meta->delta);
    default:
        return true;
    }
}

static const uint64_t known =
    META_FLAG('b') | META_FLAG('N') | META_FLAG('T') | META_FLAG('R') | META_FLAG('l') |
    META_FLAG('O') | META_FLAG('P') | META_FLAG('L') | META_FLAG('k') | META_FLAG('s') |
    META_FLAG('t') | META_FLAG('c') | META_FLAG('f') | META_FLAG('v') | META_FLAG('h') |
    META_FLAG('u') | META_FLAG('q') | META_FLAG('F') | META_FLAG('C') | META_FLAG('M') |
    META_FLAG('J') | META_FLAG('D') | META_FLAG('I') | META_FLAG('E') | META_FLAG('x');
static const uint64_t with_token =
    META_FLAG('b') | META_FLAG('N') | META_FLAG('T') | META_FLAG('R') | META_FLAG('C') |
    META_FLAG('F') | META_FLAG('M') | META_FLAG('J') | META_FLAG('D') | META_FLAG('E');

static void read_flags(struct meta *meta) {
    struct ebb_span error = error_format;
    bool wrong = false;
    for (unsigned i = 0; i < meta->flags; i++) {
        struct ebb_span flag = meta->flag[i];
        unsigned char letter = (unsigned char)flag.at[0];
        uint64_t bit = letter >= 'A' && letter <= 'z' ? META_FLAG(letter) : 0;
        if (letter >= 127 || (meta->has & bit)) {
            meta->error = EBB_SPAN("CLIENT_ERROR duplicate flag");
            return;
        }
        if ((bit & known) == 0) {
            meta->error = EBB_SPAN("CLIENT_ERROR invalid flag");
            return;
        }
        meta->has |= bit;
        if (letter == 'O' && flag.length > META_OPAQUE_MAX && meta->shown == meta->flags)
            meta->shown = i;
        if (i < meta->shown)
            meta->reached |= bit;
        struct ebb_span token = {flag.at + 1, flag.length - 1}, why = error;
        if ((bit & with_token) && !read_token(meta, (char)letter, token, &why)) {
            wrong = true;
            error = why;
        }
    }
    if (wrong)
        meta->error = error;
}

/* The words behind the key go to flag[]. False: too many. */
static bool split_flags(struct ebb_span rest, unsigned words, struct meta *meta) {
    struct ebb_span word;
    meta->flags = 0;
    while (request_next_key(&rest, &word)) {
        if (++words > WORDS_MAX)
            return false;
        meta->flag[meta->flags++] = word;
    }
    meta->shown = meta->flags;
    return true;
}

/* All but flag[] and decoded, which are long. */
static void start(struct meta *meta) {
    meta->error = EBB_SPAN("");
    meta->has_block = meta->key_is_base64 = false;
    meta->mode = 0;
    meta->flags = meta->shown = 0;
    meta->has = meta->reached = 0;
    meta->value_length = 0;
    meta->ttl = meta->vivify_ttl = meta->recache_ttl = 0;
    meta->client_flags = 0;
    meta->cas = meta->cas_new = meta->initial = 0;
    meta->delta = 1;
}

void meta_parse(enum request_verb verb, struct ebb_span rest, struct meta *meta) {
    struct ebb_span length = EBB_SPAN("");
    start(meta);
    if (!request_next_key(&rest, &meta->key)) {
        meta->error = error_format;
        return;
    }
    bool stores = verb == REQUEST_ms;
    if (stores && request_next_key(&rest, &length))
        meta->has_block = number_length(length, &meta->value_length);
    if (meta->key.length > REQUEST_KEY_MAX || (stores && !meta->has_block)) {
        meta->error = error_format;
        return;
    }
    if (!split_flags(rest, stores ? 3 : 2, meta)) {
        meta->error =
            verb == REQUEST_ma ? error_flags : EBB_SPAN("CLIENT_ERROR options flags are too long");
        return;
    }
    read_flags(meta);
    if (meta->error.length > 0 && verb == REQUEST_ma)
        meta->error = error_flags;
}

bool meta_parse_debug(struct ebb_span rest, struct ebb_span *key,
                      char reservation[REQUEST_KEY_MAX]) {
    struct ebb_span flag;
    if (!request_next_key(&rest, key) || key->length > REQUEST_KEY_MAX)
        return false;
    if (!request_next_key(&rest, &flag) || !ebb_span_equal(flag, EBB_SPAN("b")))
        return true;
    *key = (struct ebb_span){reservation, ebb_base64_decode(*key, reservation)};
    return key->length > 0;
}
