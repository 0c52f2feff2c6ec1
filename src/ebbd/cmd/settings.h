/* settings -- the flags of ebbd; rows in ../tbl/settings.def. */
#ifndef EBBD_CMD_SETTINGS_H
#define EBBD_CMD_SETTINGS_H

#include <ebb/setting.h>

#define SETTINGS_THREADS_MAX 48

struct settings {
#define EBB_SETTING EBB_SETTING_MEMBER
#include "tbl/settings.def"
    uint64_t threads_asked; /* before they were cut to SETTINGS_THREADS_MAX */
};

enum settings_protocol { SETTINGS_AUTO, SETTINGS_ASCII, SETTINGS_BINARY };
enum settings_protocol settings_protocol(const struct settings *settings);

/* Reads and checks the command line. Fails: EBB_ERR_USAGE. */
enum ebb_err settings_read(struct settings *settings, int argc, char **argv) EBB_MUST_CHECK;
void settings_write_help(struct ebb_writer *writer);
/* docs/flags.md. */
void settings_write_table(struct ebb_writer *writer);
/* True: print something and exit, all else is unchecked. */
bool settings_print_only(const struct settings *settings);
/* Mode of the unix socket, from the octal text of --unix-mask. False: no octal number up to 777. */
bool settings_unix_mode(const struct settings *settings, unsigned *mode);

#endif
