/* incr -- adding to a number, for incr, decr and ma. */
#ifndef EBBD_CMD_INCR_H
#define EBBD_CMD_INCR_H

#include "cmd.h"
#include "proto/number.h"

enum delta_outcome {
    DELTA_MISS,
    DELTA_DONE,
    DELTA_NOT_NUMERIC,
    DELTA_EXISTS, /* the cas differs */
    DELTA_NO_MEMORY,
    DELTA_GROWS, /* private */
};

struct delta {
    bool negative;
    uint64_t amount;
    uint64_t cas_wanted; /* 0: any */
    uint64_t cas_new;    /* to get; 0: a fresh one */
    bool sets_expires;
    bool creates;     /* the caller makes what is missing: that is no miss */
    uint32_t expires; /* to set */
    /* What came out of DELTA_DONE. */
    uint32_t expires_before, client_flags_before;
    uint64_t cas;
    size_t digits_count;
    char digits[NUMBER_DIGITS_MAX];
    /* private */
    enum delta_outcome outcome;
    size_t key_length, length_needed;
    struct store_reservation *reservation;
};

/* Adds and counts hits and misses. */
enum delta_outcome delta_add(struct cmd_context *cmd, struct ebb_span key, struct delta *delta);
/* Makes the number that was missing, as `new` says. STORE_AGAIN: it is there now. */
enum store_verdict delta_create(struct cmd_context *cmd, struct ebb_span key, uint64_t initial,
                                struct store_new *new, struct delta *delta);

#endif
