/* set -- storing, for the text and the meta commands. */
#ifndef EBBD_CMD_SET_H
#define EBBD_CMD_SET_H

#include "cmd.h"
#include "proto/binary.h"

/* Of request: verb, key, client_flags, exptime, value_length, number (a cas), noreply. Makes the
 * block, or one that is refused; CMD_BLOCK in any case. */
enum cmd_result set_begin(struct cmd_context *cmd, struct request *request,
                          struct cmd_block *block);
/* The same for REQUEST_append and REQUEST_prepend. */
enum cmd_result set_begin_join(struct cmd_context *cmd, struct request *request,
                               struct cmd_block *block);

/* meta_set.c: the answer to ms; length: of what is stored now, or was to be. */
void meta_set_answer(struct cmd_context *cmd, const struct cmd_block *block,
                     enum store_verdict verdict, uint64_t cas, size_t length);

/* binary.c: the answers to storing in binary; of a refused block the error to come. */
void binary_store_answer(struct cmd_context *cmd, const struct cmd_block *block,
                         enum store_verdict verdict, uint64_t cas);
void binary_store_refuse(struct cmd_block *block, enum store_verdict verdict);

#endif
