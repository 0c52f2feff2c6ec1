/* options -- memcached's -o, and what becomes of its flags; rows in ../tbl/options.def. */
#ifndef EBBD_CMD_OPTIONS_H
#define EBBD_CMD_OPTIONS_H

#include "settings.h"

/* Reads the lists of -o into settings and refuses what is refused. Fails: EBB_ERR_USAGE. */
enum ebb_err options_read(struct settings *settings) EBB_MUST_CHECK;
/* One log line for each flag and option that was given and has no meaning here. */
void options_tell(const struct settings *settings);
/* docs/flags.md: every flag, then every -o option. */
void options_write_table(const struct ebb_setting *flags, size_t count, struct ebb_writer *writer);

#endif
