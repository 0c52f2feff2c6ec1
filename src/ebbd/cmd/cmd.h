/* cmd -- carries requests out: one function per row of ../tbl/commands.def.
 *
 * A storage command comes in two halves: its line makes a struct cmd_block that says where the data
 * block goes, and when the bytes are there cmd_block_done stores them. Between the halves any time
 * may pass. */
#ifndef EBBD_CMD_CMD_H
#define EBBD_CMD_CMD_H

#include "exptime.h"
#include "proto/binary.h"
#include "proto/reply.h"
#include "proto/request.h"
#include "settings.h"
#include "store/store.h"

/* What clients are told: the newest memcached beside which the differential tests pass, as a plain
 * number. Clients parse it: libmemcached refuses a major version of 0, some take a low one for an
 * old memcached, some a word behind the number for another server. ebb's own is in `stats`. */
#define CMD_VERSION "1.6.18"

struct cmd_context;

/* Bytes that memcached would take for the item: header with a cas number, client flags when they
 * are not 0, key and NUL, value and CRLF. */
static inline size_t cmd_item_size(size_t key_length, uint32_t client_flags, size_t value_length) {
    return 56 + (client_flags ? 4 : 0) + key_length + 1 + value_length + 2;
}

#define CMD_ECHO_MAX 40 /* bytes */

/* What all workers share; nothing in it changes while they run, but log levels and the store's
 * limit. */
struct cmd_shared {
    struct store *store;
    const struct settings *settings;
    struct exptime_clock clock;
    /* Adds the lines of `stats conns` behind the connection numbered `after` (0: from the start,
     * listeners first) until the reply is full; returns the last one's number, 0 when through.
     * NULL: there are no connections. */
    uint64_t (*list_conns)(struct cmd_context *cmd, uint64_t after);
};

/* What a command works with on one worker. Lies in scanned memory. */
struct cmd_context {
    const struct cmd_shared *shared;
    struct store_worker *worker;
    struct reply *reply; /* answers are added here */
    uint32_t now;
    int fd;                    /* whose request it is; only to be told */
    struct cmd_stream *stream; /* of CMD_STREAM: whoever called takes it */
};

/* A data block on its way. Lies in scanned memory: it holds the memory that is filled. Zeroed:
 * none. */
struct cmd_block {
    char *at;      /* where its bytes go; NULL: it is refused, and they are thrown away */
    size_t length; /* bytes, without CRLF */
    size_t here;   /* of these, so many find room at `at`; then cmd_block_more */
    size_t announced;
    enum request_verb verb;
    bool noreply;
    uint32_t client_flags, expires;
    uint64_t cas, cas_new; /* to compare; to get, 0: a fresh one */
    struct store_reservation
        reservation;    /* at points into it, except for a short append or prepend */
    uint8_t key_length; /* of append, prepend and ms */
    char key[REQUEST_KEY_MAX];
    /* of ms */
    bool meta, invalidates, key_is_base64, creates; /* creates: append and prepend, too */
    uint8_t echo_length;
    char echo[CMD_ECHO_MAX]; /* flags to answer, with blanks between: opaque, 'k', 'c' */
    /* of the binary protocol: no CRLF follows the bytes */
    struct binary_origin binary;
    /* Of a refused one: the error, which is told when all its bytes have come. */
    struct ebb_span refusal; /* static text; in binary, empty: as the status */
    enum binary_status refusal_status;
};

enum cmd_result {
    CMD_DONE,
    CMD_BLOCK,  /* block is set: its bytes and a CRLF come next */
    CMD_AGAIN,  /* the reply is full; request->keys is what is left: send, then come back with it */
    CMD_STREAM, /* a long answer: the context's stream is to be stepped until it ends */
    CMD_QUIT,   /* send the replies so far, then close */
};

typedef enum cmd_result cmd_function(struct cmd_context *cmd, struct request *request,
                                     struct cmd_block *block);
#define EBB_COMMAND(id, ...) cmd_function cmd_##id;
#include "tbl/commands.def"

/* Carries a parsed request out. The reply must not be full. */
enum cmd_result cmd_run(struct cmd_context *cmd, struct request *request, struct cmd_block *block);

/* Carries out a frame whose header, extras and key are there; its value is a block. CMD_QUIT: send,
 * then close. The reply must not be full. */
enum cmd_result cmd_run_binary(struct cmd_context *cmd, const struct binary *frame,
                               struct cmd_block *block);

/* block->here bytes are at block->at and there are more to come: makes room for them, for `least`
 * in all if not more. Without memory the block is refused. */
void cmd_block_more(struct cmd_context *cmd, struct cmd_block *block, size_t least);
/* All bytes are at block->at (or thrown away), and crlf says whether CRLF followed them. Answers;
 * the block is zeroed. */
void cmd_block_done(struct cmd_context *cmd, struct cmd_block *block, bool crlf);
/* The rest of the block will never come. The block is zeroed. */
void cmd_block_drop(struct cmd_context *cmd, struct cmd_block *block);

/* Counts a request of this kind. */
void cmd_count(enum request_verb verb);

/* Everything stored so far is gone, now (exptime 0 or less) or at that time. */
void cmd_flush(struct cmd_context *cmd, int64_t exptime);

/* An answer of many time slices. OWNED; cmd_stream_close. */
struct cmd_stream;
enum cmd_step {
    CMD_STEP_MORE, /* step again; send the reply first when it is full */
    CMD_STEP_WAIT, /* nothing to tell now: what the peer sends meanwhile is thrown away; step again
                      in a while */
    CMD_STEP_END,
};
/* The reply must not be full. */
enum cmd_step cmd_stream_step(struct cmd_context *cmd, struct cmd_stream *stream);
void cmd_stream_close(struct cmd_stream *stream);

/* For store_commit: stores what is not there. STORE_AGAIN: it is. */
store_decide cmd_decide_absent;

/* A sentence as the answer, unless noreply. */
void cmd_answer(struct cmd_context *cmd, bool noreply, struct ebb_span sentence);

#endif
