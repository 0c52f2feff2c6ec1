/* control -- what concerns the daemon rather than an item: flush_all, version, verbosity,
 * cache_memlimit, mn, quit. */
#include "cmd.h"

#include "metrics.h"

#include <ebb/log.h>
#include <signal.h>
#include <unistd.h>

#define MEGABYTES_MIN 8          /* as memcached refuses */
#define MEGABYTES_MAX 1000000000 /* more was meant as bytes */

void cmd_flush(struct cmd_context *cmd, int64_t exptime) {
    uint32_t at = cmd->now;
    if (exptime > 0) /* memcached flushes one second early: what is stored in the second before
                        still goes */
        at = exptime_second(&cmd->shared->clock, exptime, cmd->now) - 1;
    ebb_count(&ebb_metric_flushes, 1);
    store_flush(cmd->shared->store, at, cmd->now);
}

enum cmd_result cmd_flush_all(struct cmd_context *cmd, struct request *request,
                              struct cmd_block *block) {
    (void)block;
    if (cmd->shared->settings->disable_flush) {
        ebb_count(&ebb_metric_flushes, 1);
        cmd_answer(cmd, request->noreply, EBB_SPAN("CLIENT_ERROR flush_all not allowed"));
        return CMD_DONE;
    }
    cmd_flush(cmd, request->exptime);
    cmd_answer(cmd, request->noreply, EBB_SPAN("OK"));
    return CMD_DONE;
}

enum cmd_result cmd_version(struct cmd_context *cmd, struct request *request,
                            struct cmd_block *block) {
    (void)request;
    (void)block;
    reply_line(cmd->reply, EBB_SPAN("VERSION " CMD_VERSION));
    return CMD_DONE;
}

enum cmd_result cmd_verbosity(struct cmd_context *cmd, struct request *request,
                              struct cmd_block *block) {
    (void)block;
    uint64_t more = EBB_LOG_TRACE - EBB_LOG_INFO;
    ebb_log_level_set(
        (enum ebb_log_level)(EBB_LOG_INFO + (request->number < more ? request->number : more)));
    cmd_answer(cmd, request->noreply, EBB_SPAN("OK"));
    return CMD_DONE;
}

enum cmd_result cmd_cache_memlimit(struct cmd_context *cmd, struct request *request,
                                   struct cmd_block *block) {
    (void)block;
    struct ebb_span answer = EBB_SPAN("OK");
    if (request->number < MEGABYTES_MIN)
        answer = EBB_SPAN("MEMLIMIT_TOO_SMALL cannot set maxbytes to less than 8m");
    else if (request->number > MEGABYTES_MAX)
        answer = EBB_SPAN("MEMLIMIT_ADJUST_FAILED input value is megabytes not bytes");
    else if (!store_limit_set(cmd->shared->store, (size_t)request->number << 20, cmd->now))
        answer = EBB_SPAN("MEMLIMIT_ADJUST_FAILED out of bounds or unable to adjust");
    cmd_answer(cmd, request->noreply, answer);
    return CMD_DONE;
}

enum cmd_result cmd_mn(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    (void)request;
    (void)block;
    reply_line(cmd->reply, EBB_SPAN("MN"));
    return CMD_DONE;
}

enum cmd_result cmd_shutdown(struct cmd_context *cmd, struct request *request,
                             struct cmd_block *block) {
    (void)block;
    int number = 0;
    struct ebb_span mode = request->words > 1 ? request->word[1] : EBB_SPAN("");
    if (request->words == 1)
        number = SIGINT;
    else if (request->words == 2 && ebb_span_equal(mode, EBB_SPAN("graceful")))
        number = SIGTERM;
    if (!cmd->shared->settings->enable_shutdown)
        reply_line(cmd->reply, EBB_SPAN("SERVER_ERROR: shutdown not enabled"));
    else if (number == 0)
        reply_line(cmd->reply, EBB_SPAN("CLIENT_ERROR invalid shutdown mode"));
    else
        kill(getpid(), number);
    return cmd->shared->settings->enable_shutdown && number != 0 ? CMD_QUIT : CMD_DONE;
}

enum cmd_result cmd_quit(struct cmd_context *cmd, struct request *request,
                         struct cmd_block *block) {
    (void)cmd;
    (void)request;
    (void)block;
    return CMD_QUIT;
}
