/* Set: append and prepend come to an end; errors come behind the block. */
#include "harness.h"

#include <ebbd/cmd/cmd.h>

enum {
    NOW = 100,
    LONG = 4 << 20, /* bytes */
    LIMIT = 64 << 20,
    APPENDS = 3 * LIMIT / LONG,
};

static void carry_out(struct cmd_context *cmd, enum request_verb verb, size_t length) {
    struct request request = {.verb = verb, .key = EBB_SPAN("long"), .value_length = length};
    struct cmd_block block = {0};
    reply_clear(cmd->reply);
    ck_assert_int_eq(cmd_run(cmd, &request, &block), CMD_BLOCK);
    memset(block.at, 'x', length);
    cmd_block_done(cmd, &block, true);
    ck_assert_uint_eq(cmd->reply->used, strlen("STORED\r\n"));
}

/* Room for each is made by a version before it, whose leaving takes the lock of the same bucket. */
START_TEST(appends_to_a_long_value_turn_the_whole_memory_over) {
    struct store_config config = {
        .limit_bytes = LIMIT, .value_size_max = 2 * LONG, .workers = 1, .evict = true};
    struct settings settings = {.item_size_max = 2 * LONG};
    struct store *store = store_new(&config);
    struct cmd_shared shared = {.store = store, .settings = &settings};
    struct reply reply = {.text = ebb_bytes(REPLY_TEXT_SIZE), .size = REPLY_TEXT_SIZE};
    struct cmd_context cmd = {
        .shared = &shared, .worker = store_worker_at(store, 0), .reply = &reply, .now = NOW};
    carry_out(&cmd, REQUEST_set, LONG);
    for (int i = 0; i < APPENDS; i++)
        carry_out(&cmd, i % 2 ? REQUEST_append : REQUEST_prepend, 1);
    struct store_read read;
    ck_assert(store_find(cmd.worker, EBB_SPAN("long"), NOW, &read));
    ck_assert_uint_eq(read.item.value_length, LONG + APPENDS);
    for (size_t i = 0; i < read.item.value_length; i++)
        if (read.item.value[i] != 'x')
            ck_abort_msg("byte %zu is another", i);
    store_check(store);
    store_close(store);
}
END_TEST

static void is_answered(const struct cmd_context *cmd, const char *answer) {
    struct ebb_span told = {cmd->reply->text, cmd->reply->used};
    ck_assert_msg(ebb_span_equal(told, ebb_span_of(answer)), "%.*s", (int)told.length, told.at);
    reply_clear(cmd->reply);
}

START_TEST(an_error_is_told_when_the_block_has_come) {
    struct store_config config = {.limit_bytes = LIMIT, .value_size_max = LONG, .workers = 1};
    struct settings settings = {.item_size_max = LONG};
    struct store *store = store_new(&config);
    struct cmd_shared shared = {.store = store, .settings = &settings};
    struct reply reply = {.text = ebb_bytes(REPLY_TEXT_SIZE), .size = REPLY_TEXT_SIZE};
    struct cmd_context cmd = {
        .shared = &shared, .worker = store_worker_at(store, 0), .reply = &reply, .now = NOW};
    struct request request = {.verb = REQUEST_set, .value_length = LONG / 2};
    struct cmd_block block = {0};
    char key[16];
    for (int i = 0;; i++) {
        request.key = (struct ebb_span){key, (size_t)snprintf(key, sizeof(key), "%d", i)};
        ck_assert_int_eq(cmd_run(&cmd, &request, &block), CMD_BLOCK);
        is_answered(&cmd, "");
        if (block.at == NULL)
            break; /* no memory is left */
        cmd_block_done(&cmd, &block, true);
        is_answered(&cmd, "STORED\r\n");
    }
    ck_assert_uint_eq(block.length, LONG / 2);
    cmd_block_done(&cmd, &block, true);
    is_answered(&cmd, "SERVER_ERROR out of memory storing object\r\n");
    request.noreply = true;
    ck_assert_int_eq(cmd_run(&cmd, &request, &block), CMD_BLOCK);
    cmd_block_done(&cmd, &block, true);
    is_answered(&cmd, "");
    request = (struct request){.verb = REQUEST_set, .key = EBB_SPAN("k"), .value_length = LONG};
    ck_assert_int_eq(cmd_run(&cmd, &request, &block), CMD_BLOCK);
    is_answered(&cmd, "");
    cmd_block_done(&cmd, &block, false);
    is_answered(&cmd, "SERVER_ERROR object too large for cache\r\n");
    store_close(store);
}
END_TEST

HARNESS_MAIN_COLLECTED("set", appends_to_a_long_value_turn_the_whole_memory_over,
                       an_error_is_told_when_the_block_has_come)
