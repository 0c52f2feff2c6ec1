/* cmd -- from a parsed line to the function of its row. */
#include "cmd.h"

#include "metrics.h"

static const struct {
    cmd_function *run;
    struct ebb_metric *requests;
} rows[REQUEST_VERBS] = {
#define EBB_COMMAND(id, ...) [REQUEST_##id] = {cmd_##id, &ebb_metric_request_##id},
#include "tbl/commands.def"
};

void cmd_count(enum request_verb verb) {
    ebb_count(verb == REQUEST_NONE ? &ebb_metric_request_none : rows[verb].requests, 1);
}

void cmd_answer(struct cmd_context *cmd, bool noreply, struct ebb_span sentence) {
    if (!noreply)
        reply_line(cmd->reply, sentence);
}

enum store_verdict cmd_decide_absent(const struct store_item *old, struct store_new *new,
                                     void *context) {
    (void)new;
    (void)context;
    return old ? STORE_AGAIN : STORE_STORED;
}

enum cmd_result cmd_run(struct cmd_context *cmd, struct request *request, struct cmd_block *block) {
    if (request->hang_up)
        return CMD_QUIT;
    if (request->error.length > 0) {
        ebb_count(&ebb_metric_request_none, 1);
        if (request->has_block) {
            *block = (struct cmd_block){.length = request->value_length,
                                        .noreply = request->noreply,
                                        .refusal = request->error};
            return CMD_BLOCK;
        }
        cmd_answer(cmd, request->noreply, request->error);
        return CMD_DONE;
    }
    ebb_count(rows[request->verb].requests, 1);
    return rows[request->verb].run(cmd, request, block);
}
