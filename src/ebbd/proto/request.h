/* request -- a line of the text protocol as a struct; the rules and the sentences are memcached
 * 1.6.18's, or 1.6.45's where ../tbl/differences.def says so. */
#ifndef EBBD_PROTO_REQUEST_H
#define EBBD_PROTO_REQUEST_H

#include <ebb/span.h>
#include <stdint.h>

#define REQUEST_KEY_MAX 250 /* bytes */
#define REQUEST_LINE_MAX                                                                           \
    2048 /* bytes that may come without an end of line; "get" and "gets" may be longer */
#define REQUEST_KEYS_MAX 1048576 /* bytes of a line of "get" or "gets" */
#define REQUEST_WORDS    8       /* words of a line that are kept */

enum request_verb {
    REQUEST_NONE, /* there is only an error to answer */
#define EBB_COMMAND(id, ...) REQUEST_##id,
#include "tbl/commands.def"
    REQUEST_VERBS
};

/* How the words after the name are read. */
enum request_form {
    REQUEST_FORM_KEYS,       /* key ... */
    REQUEST_FORM_TOUCH_KEYS, /* exptime key ... */
    REQUEST_FORM_META,       /* key [length] flag ...; keys is all of it, for meta_parse */
    REQUEST_FORM_STORE,      /* key flags exptime length ... [noreply]; then length bytes, CRLF */
    REQUEST_FORM_STORE_CAS,  /* key flags exptime length cas ... [noreply] */
    REQUEST_FORM_DELETE,     /* key [0] [noreply] */
    REQUEST_FORM_DELTA,      /* key delta [noreply] */
    REQUEST_FORM_TOUCH,      /* key exptime [noreply] */
    REQUEST_FORM_FLUSH,      /* [delay] [noreply] */
    REQUEST_FORM_LEVEL,      /* level [noreply] */
    REQUEST_FORM_MEGABYTES,  /* megabytes [noreply] */
    REQUEST_FORM_LRU,        /* words; noreply is heeded */
    REQUEST_FORM_WORDS,      /* whatever the command makes of them */
};

struct request {
    enum request_verb verb;
    bool noreply;
    bool hang_up; /* the peer speaks HTTP: close without an answer */
    struct ebb_span
        error; /* not empty: the line is wrong; answer this (unless noreply) and do nothing */
    /* By form; the rest is unset. All spans point into the line. */
    struct ebb_span key;
    struct ebb_span keys; /* from the first key to the end of the line; see request_next_key */
    uint32_t client_flags;
    int64_t exptime;     /* also the delay of flush_all; 0 without one */
    bool has_block;      /* value_length is known, so a block follows even after an error */
    size_t value_length; /* bytes of the data block, without its CRLF */
    uint64_t number;     /* cas, delta, level, megabytes */
    struct ebb_span word[REQUEST_WORDS];
    unsigned words; /* in the line, at most 23 counted; word[] holds the first REQUEST_WORDS */
};

/* Reads one line (without its end of line). Every key of the result has 1 to REQUEST_KEY_MAX bytes.
 */
void request_parse(struct ebb_span line, struct request *request);

/* Takes the first key off keys. False when there is none left. */
bool request_next_key(struct ebb_span *keys, struct ebb_span *key);

/* It can stand in a line: no blank, CR or LF is in it. Keys that came in base64 or binary may not.
 */
bool request_is_word(struct ebb_span key);

/* A get that stopped halfway: makes what is left a shorter request of its own. line: the whole line
 * as it came, writable; rest: its keys that are not yet answered (at least one was). Returns where
 * in line the new request begins. */
size_t request_shorten(char *line, const struct request *request, struct ebb_span rest);

enum request_found {
    REQUEST_LINE, /* line is there */
    REQUEST_MORE, /* more bytes are needed */
    REQUEST_LONG, /* this line is longer than allowed: close the connection */
};
/* Finds the next line at the start of [at, at + length); *taken: bytes up to and with its end of
 * line. */
enum request_found request_find_line(const char *at, size_t length, struct ebb_span *line,
                                     size_t *taken);

/* Name of a command for messages; static text. */
const char *request_verb_name(enum request_verb verb);

#endif
