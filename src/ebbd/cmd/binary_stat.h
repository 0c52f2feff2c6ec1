/* binary_stat -- stat of the binary protocol. */
#ifndef EBBD_CMD_BINARY_STAT_H
#define EBBD_CMD_BINARY_STAT_H

#include "cmd.h"

/* Answers with a frame for each line that `stats KEY` has, and an empty one at the end. */
void binary_stat(struct cmd_context *cmd, const struct binary *frame);

#endif
