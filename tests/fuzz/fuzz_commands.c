/* fuzz_commands -- what a connection does with bytes, without a socket: lines, frames, blocks,
 * commands, streams, over a small store.
 *
 * 1. The input lies in memory of its exact size from malloc, so ASan sees a read behind it.
 * 2. The store lives on from input to input, so that keys are met; its clock moves with each.
 * 3. After each input all of the store's invariants hold now and then (store_check). */
#include "cmd/cmd.h"
#include "cmd/metrics.h"
#include "proto/binary.h"

#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/log.h>
#include <ebb/mem.h>
#include <stdio.h>
#include <stdlib.h>

#define EBB_TYPE EBB_TYPE_DECLARE
#include "tbl/types.def"

#define MEMORY_BYTES   (8u << 20)
#define ITEM_SIZE_MAX  (1u << 20)
#define STEPS_MAX      64
#define CHECK_EVERY    1024
#define SECONDS_A_TIME 7 /* that pass every so many inputs */

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);

static struct settings settings;
static struct cmd_shared shared;
static struct reply reply;
static struct cmd_context cmd;
static struct cmd_block block;

int LLVMFuzzerInitialize(int *argc, char ***argv) {
    static struct ebb_profile profile;
    (void)argc;
    (void)argv;
    if (ebb_profile_read(&profile, EBB_PROFILE_DEFAULT) != EBB_OK)
        abort();
    static struct ebb_type *const types[] = {
#define EBB_TYPE EBB_TYPE_ADDRESS
#include "tbl/types.def"
    };
    ebb_collector_start(&profile);
    ebb_types_add(types, sizeof(types) / sizeof(types[0]));
    ebb_metrics_add(metrics_rows, metrics_rows_count);
    settings.memory_mib = MEMORY_BYTES >> 20;
    settings.item_size_max = ITEM_SIZE_MAX;
    settings.unix_mask = "700";
    settings.protocol = "auto";
    settings.threads = 1;
    struct store_config config = {
        .limit_bytes = MEMORY_BYTES, .value_size_max = ITEM_SIZE_MAX, .workers = 1, .evict = true};
    shared.store = store_new(&config);
    shared.settings = &settings;
    exptime_clock_init(&shared.clock, ebb_clock_ns(), ebb_clock_unix_ns());
    reply.text = ebb_bytes(REPLY_TEXT_SIZE);
    reply.size = REPLY_TEXT_SIZE;
    cmd = (struct cmd_context){.shared = &shared,
                               .worker = store_worker_at(shared.store, 0),
                               .reply = &reply,
                               .now = EXPTIME_CLOCK_START};
    return 0;
}

/* The block's bytes, as far as they are there. Returns how many were taken; all: an end. */
static size_t feed_block(const char *at, size_t left) {
    size_t whole = block.length + 2, bytes = left < block.length ? left : block.length;
    if (block.at)
        memcpy(block.at, at, bytes);
    if (left < whole) {
        cmd_block_drop(&cmd, &block);
        return left;
    }
    cmd_block_done(&cmd, &block, memcmp(at + block.length, "\r\n", 2) == 0);
    return whole;
}

static void run_stream(void) {
    struct cmd_stream *stream = cmd.stream;
    cmd.stream = NULL;
    for (int i = 0; i < STEPS_MAX && cmd_stream_step(&cmd, stream) == CMD_STEP_MORE; i++)
        reply_clear(&reply);
    cmd_stream_close(stream);
}

/* One line or frame. Returns how many bytes it took; 0: the connection would end or wait. */
static size_t one(char *at, size_t left) {
    struct ebb_span line;
    size_t taken;
    enum cmd_result result;
    struct request request, asked;
    if ((unsigned char)*at == BINARY_MAGIC) {
        struct binary frame;
        if (binary_find(at, left, &frame, &taken) != BINARY_FRAME)
            return 0;
        result = cmd_run_binary(&cmd, &frame, &block);
    } else {
        if (request_find_line(at, left, &line, &taken) != REQUEST_LINE)
            return 0;
        request_parse(line, &request);
        asked = request;
        result = cmd_run(&cmd, &request, &block);
    }
    switch (result) {
    case CMD_BLOCK:
        return taken + feed_block(at + taken, left - taken);
    case CMD_AGAIN:
        return request_shorten(at, &asked, request.keys);
    case CMD_STREAM:
        run_stream();
        return taken;
    case CMD_QUIT:
        return 0;
    default:
        return taken;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static unsigned inputs;
    if (++inputs % SECONDS_A_TIME == 0)
        cmd.now++;
    char *input = malloc(size + 1);
    memcpy(input, data, size);
    char *exact = realloc(input, size ? size : 1);
    ebb_log_level_set(EBB_LOG_ERROR);
    for (size_t at = 0; at < size;) {
        size_t taken = one(exact + at, size - at);
        reply_clear(&reply);
        if (taken == 0)
            break;
        at += taken;
    }
    free(exact);
    if (inputs % CHECK_EVERY == 0)
        store_check(shared.store);
    return 0;
}
