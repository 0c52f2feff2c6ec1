/* setting -- a program's settings: one row each gives the struct's member, the flag, --help and the
 * bounds.
 *
 * A row of a settings.def:
 *     EBB_SETTING(member, TYPE, 'p', "port", "default", low, high, "group", "<num>", "help")
 * TYPE is one of FLAG (bool), COUNT (uint64_t: how often it was given, -vv is 2), NUMBER
 * (uint64_t), PORT (uint64_t, or EBB_PORT_ANY for -1), SIZE (uint64_t bytes; takes k, m, g), TEXT
 * (const char *), LIST (struct ebb_setting_list: may be given again). short 0: no short name.
 * Bounds count for COUNT, NUMBER, PORT and SIZE. A FLAG's default is "on" or NULL; a LIST's is
 * shown only.
 */
#ifndef EBB_SETTING_H
#define EBB_SETTING_H

#include <ebb/err.h>
#include <ebb/writer.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

enum ebb_setting_type {
    EBB_SETTING_FLAG,
    EBB_SETTING_COUNT,
    EBB_SETTING_NUMBER,
    EBB_SETTING_PORT,
    EBB_SETTING_SIZE,
    EBB_SETTING_TEXT,
    EBB_SETTING_LIST
};

#define EBB_PORT_ANY         65536 /* any free one */
#define EBB_SETTING_LIST_MAX 32
#define EBB_SETTINGS_MAX     128 /* rows */
struct ebb_setting_list {
    const char *value[EBB_SETTING_LIST_MAX];
    size_t count;
};

#define EBB_SETTING_C_FLAG   bool
#define EBB_SETTING_C_COUNT  uint64_t
#define EBB_SETTING_C_NUMBER uint64_t
#define EBB_SETTING_C_PORT   uint64_t
#define EBB_SETTING_C_SIZE   uint64_t
#define EBB_SETTING_C_TEXT   const char *
#define EBB_SETTING_C_LIST   struct ebb_setting_list

struct ebb_setting {
    const char *member;
    enum ebb_setting_type type;
    int short_name;
    const char *long_name, *default_text;
    uint64_t low, high;
    const char *group, *argument, *help;
    size_t offset; /* in the settings struct */
};

/* The two uses of a table: members of the struct, and rows of struct ebb_setting for `struct
 * STRUCT`. */
#define EBB_SETTING_MEMBER(member, type, ...) EBB_SETTING_C_##type member;
#define EBB_SETTING_ROW(struct_, member_, type_, short_, long_, default_, low_, high_, group_,     \
                        argument_, help_)                                                          \
    {#member_,                                                                                     \
     EBB_SETTING_##type_,                                                                          \
     short_,                                                                                       \
     long_,                                                                                        \
     default_,                                                                                     \
     low_,                                                                                         \
     high_,                                                                                        \
     group_,                                                                                       \
     argument_,                                                                                    \
     help_,                                                                                        \
     offsetof(struct struct_, member_)},

/* Fills values (a zeroed struct) with the defaults, then from the command line. Strings point into
 * argv or the table. Fails: EBB_ERR_USAGE, one line that names the flag, the value and what is
 * allowed. Words that are no flag are refused. Allocates nothing. */
enum ebb_err ebb_settings_parse(const struct ebb_setting *rows, size_t count, void *values,
                                int argc, char **argv) EBB_MUST_CHECK;

/* Every row, grouped, with default and bounds, 80 columns. */
void ebb_settings_write_help(const struct ebb_setting *rows, size_t count,
                             struct ebb_writer *writer);

__END_DECLS

#endif
