/* setting -- a table of rows becomes flags, bounds and --help.
 *
 * getopt_long does the splitting, so -p1, -p 1, --port=1 and --port 1 all work, and -vc1 too. Its
 * tables are built from the rows on the stack. Every refusal is one sentence with the flag, the
 * value and what is allowed.
 *
 * 1. A default is read by the same code as the command line, so it cannot be out of its own bounds.
 * 2. A long name may be cut short while one flag alone is meant. Flags with a letter go first:
 * those without one are the program's own additions to what others agreed on, and make none of
 * their abbreviations ambiguous.
 */
#include <ebb/setting.h>

#include <ebb/assert.h>
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define VALUE_BASE 1000 /* getopt's answer for row i is VALUE_BASE + i, above every character */

/* "--port (-p)", in static storage of this thread; for one sentence. */
static const char *flag_name(const struct ebb_setting *row) {
    static _Thread_local char name[96];
    if (row->short_name)
        snprintf(name, sizeof(name), "--%s (-%c)", row->long_name, row->short_name);
    else
        snprintf(name, sizeof(name), "--%s", row->long_name);
    return name;
}

static bool takes_value(const struct ebb_setting *row) {
    return row->type != EBB_SETTING_FLAG && row->type != EBB_SETTING_COUNT;
}

/* A size in the largest unit that divides it. */
static void write_size(struct ebb_writer *writer, uint64_t bytes) {
    const char *units = "\0kmg";
    int unit = 0;
    while (unit < 3 && bytes > 0 && bytes % 1024 == 0) {
        bytes /= 1024;
        unit++;
    }
    ebb_writef(writer, unit ? "%llu%c" : "%llu", (unsigned long long)bytes, units[unit]);
}

static void write_bounds(struct ebb_writer *writer, const struct ebb_setting *row) {
    if (row->type == EBB_SETTING_SIZE) {
        write_size(writer, row->low);
        ebb_write(writer, " to ");
        write_size(writer, row->high);
    } else {
        ebb_writef(writer, "%llu to %llu%s", (unsigned long long)row->low,
                   (unsigned long long)row->high,
                   row->type == EBB_SETTING_PORT ? ", or -1: any free one" : "");
    }
}

static enum ebb_err refuse(const struct ebb_setting *row, const char *text, const char *why) {
    char bounds[64];
    struct ebb_array_writer array;
    ebb_array_writer_init(&array, bounds, sizeof(bounds));
    write_bounds(&array.writer, row);
    return ebb_err_set(EBB_ERR_USAGE, "%s: \"%s\" is %s; allowed: %s%s", flag_name(row), text, why,
                       bounds, row->type == EBB_SETTING_SIZE ? ", as bytes or with k, m or g" : "");
}

/* The factor of a size's unit letter, 0 for an unknown one. */
static uint64_t unit_factor(const char *unit) {
    if (unit[0] == 0)
        return 1;
    if (unit[1] != 0)
        return 0;
    switch (unit[0] | 0x20) {
    case 'k':
        return 1024;
    case 'm':
        return 1024 * 1024;
    case 'g':
        return 1024 * 1024 * 1024;
    default:
        return 0;
    }
}

static enum ebb_err parse_number(const struct ebb_setting *row, const char *text, uint64_t *value) {
    if (row->type == EBB_SETTING_PORT && strcmp(text, "-1") == 0) {
        *value = EBB_PORT_ANY;
        return EBB_OK;
    }
    if (text[0] < '0' || text[0] > '9')
        return refuse(row, text, "not a number");
    char *rest;
    errno = 0;
    uint64_t number = strtoull(text, &rest, 10);
    uint64_t factor = row->type == EBB_SETTING_SIZE ? unit_factor(rest) : (uint64_t)(rest[0] == 0);
    if (factor == 0)
        return refuse(row, text, "not a number");
    if (errno == ERANGE || number > UINT64_MAX / factor || number * factor < row->low ||
        number * factor > row->high)
        return refuse(row, text, "out of bounds");
    *value = number * factor;
    return EBB_OK;
}

static enum ebb_err append(const struct ebb_setting *row, struct ebb_setting_list *list,
                           const char *text) {
    if (list->count == EBB_SETTING_LIST_MAX)
        return ebb_err_set(EBB_ERR_USAGE, "%s: \"%s\" is one too many; allowed: %d times",
                           flag_name(row), text, EBB_SETTING_LIST_MAX);
    list->value[list->count++] = text;
    return EBB_OK;
}

/* Takes text (NULL for flags without a value) into the row's member. */
static enum ebb_err take(const struct ebb_setting *row, void *values, const char *text) {
    void *member = (char *)values + row->offset;
    switch (row->type) {
    case EBB_SETTING_FLAG:
        *(bool *)member = true;
        return EBB_OK;
    case EBB_SETTING_COUNT:
        if (*(uint64_t *)member < row->high)
            ++*(uint64_t *)member;
        return EBB_OK;
    case EBB_SETTING_NUMBER:
    case EBB_SETTING_PORT:
    case EBB_SETTING_SIZE:
        return parse_number(row, text, (uint64_t *)member);
    case EBB_SETTING_TEXT:
        *(const char **)member = text;
        return EBB_OK;
    case EBB_SETTING_LIST:
        return append(row, (struct ebb_setting_list *)member, text);
    }
    return EBB_OK;
}

static void take_default(const struct ebb_setting *row, void *values) {
    if (row->default_text == NULL || row->type == EBB_SETTING_LIST ||
        row->type == EBB_SETTING_COUNT ||
        (row->type == EBB_SETTING_FLAG && strcmp(row->default_text, "on") != 0))
        return;
    enum ebb_err error = take(row, values, row->default_text);
    ebb_assert(error == EBB_OK, "default of --%s: %s", row->long_name, ebb_err_text());
}

/* getopt's tables; '+' stops at the first word that is no flag, ':' tells a missing value from an
 * unknown flag. */
struct tables {
    char shorts[2 * EBB_SETTINGS_MAX + 3];
    struct option longs[EBB_SETTINGS_MAX + 1];
    struct option lettered[EBB_SETTINGS_MAX + 1]; /* of longs, those that have a letter too */
};

static void build_tables(const struct ebb_setting *rows, size_t count, struct tables *tables) {
    char *shorts = tables->shorts;
    struct option *longs = tables->longs, *lettered = tables->lettered;
    *shorts++ = '+';
    *shorts++ = ':';
    for (size_t i = 0; i < count; i++) {
        *longs++ =
            (struct option){rows[i].long_name, takes_value(&rows[i]), NULL, VALUE_BASE + (int)i};
        if (rows[i].short_name == 0)
            continue;
        *lettered++ = longs[-1];
        *shorts++ = (char)rows[i].short_name;
        if (takes_value(&rows[i]))
            *shorts++ = ':';
    }
    *longs = *lettered = (struct option){NULL, 0, NULL, 0};
    *shorts = 0;
}

/* How many names of the table begin with the word's; one that is the word's counts as all. */
static size_t names_meant(const struct option *table, const char *name, size_t length) {
    size_t meant = 0;
    for (; table->name; table++) {
        if (strncmp(table->name, name, length) != 0)
            continue;
        if (table->name[length] == 0)
            return SIZE_MAX;
        meant++;
    }
    return meant;
}

/* The table in which a word of the form --NAME or --NAME=VALUE is looked up. */
static const struct option *table_for(const struct tables *tables, const char *word) {
    if (word == NULL || strncmp(word, "--", 2) != 0)
        return tables->longs;
    const char *name = word + 2;
    size_t length = strcspn(name, "=");
    bool whole = names_meant(tables->longs, name, length) == SIZE_MAX;
    return !whole && names_meant(tables->lettered, name, length) > 0 ? tables->lettered
                                                                     : tables->longs;
}

static const struct ebb_setting *row_of(const struct ebb_setting *rows, size_t count, int found) {
    if (found >= VALUE_BASE && found < VALUE_BASE + (int)count)
        return &rows[found - VALUE_BASE];
    for (size_t i = 0; i < count && found != 0; i++)
        if (rows[i].short_name == found)
            return &rows[i];
    return NULL;
}

static enum ebb_err refuse_short_for_many(const struct option *table, const char *word) {
    char names[256];
    struct ebb_array_writer array;
    ebb_array_writer_init(&array, names, sizeof(names));
    size_t length = strcspn(word + 2, "=");
    for (; table->name; table++)
        if (strncmp(table->name, word + 2, length) == 0)
            ebb_writef(&array.writer, " --%s", table->name);
    return ebb_err_set(EBB_ERR_USAGE, "\"%s\" is short for more than one flag:%s", word, names);
}

/* What getopt stumbled over: optopt holds the flag when it is a known one. */
static enum ebb_err refuse_flag(const struct ebb_setting *rows, size_t count, int found,
                                const char *word, const struct option *table) {
    const struct ebb_setting *row = row_of(rows, count, optopt);
    if (optopt == 0 && strncmp(word, "--", 2) == 0 &&
        names_meant(table, word + 2, strcspn(word + 2, "=")) > 1)
        return refuse_short_for_many(table, word);
    if (row && found == ':')
        return ebb_err_set(EBB_ERR_USAGE, "%s needs a value: %s", flag_name(row),
                           row->argument && row->argument[0] ? row->argument : "<value>");
    if (row)
        return ebb_err_set(EBB_ERR_USAGE, "%s takes no value, but \"%s\" was given", flag_name(row),
                           word);
    if (optopt > 0 && optopt < VALUE_BASE)
        return ebb_err_set(EBB_ERR_USAGE, "-%c is no flag; --help lists them all", optopt);
    return ebb_err_set(EBB_ERR_USAGE, "\"%s\" is no flag; --help lists them all", word);
}

enum ebb_err ebb_settings_parse(const struct ebb_setting *rows, size_t count, void *values,
                                int argc, char **argv) {
    struct tables tables;
    const struct option *table;
    ebb_assert(count <= EBB_SETTINGS_MAX, "%zu settings", count);
    build_tables(rows, count, &tables);
    for (size_t i = 0; i < count; i++)
        take_default(&rows[i], values);
    optind = 0; /* starts anew, whoever used getopt before */
    opterr = 0;
    int found;
    while (table = table_for(&tables, optind < argc ? argv[optind > 0 ? optind : 1] : NULL),
           (found = getopt_long(argc, argv, tables.shorts, table, NULL)) != -1) {
        const struct ebb_setting *row = row_of(rows, count, found);
        if (row == NULL || found == '?' || found == ':')
            return refuse_flag(rows, count, found, argv[optind > 0 ? optind - 1 : 0], table);
        enum ebb_err error = take(row, values, optarg);
        if (error)
            return error;
    }
    if (optind < argc)
        return ebb_err_set(EBB_ERR_USAGE, "\"%s\" is no flag; --help lists them all", argv[optind]);
    return EBB_OK;
}

/* --- help --- */

#define HELP_COLUMNS 80
#define HELP_INDENT  30

/* The words of text from column HELP_INDENT on; column is where the line stands now. */
static void write_wrapped(struct ebb_writer *writer, int column, const char *text) {
    while (*text) {
        int word = (int)strcspn(text, " ");
        if (column > HELP_INDENT && column + 1 + word > HELP_COLUMNS) {
            ebb_writef(writer, "\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        } else if (column > HELP_INDENT) {
            ebb_write(writer, " ");
            column++;
        }
        ebb_writef(writer, "%.*s", word, text);
        column += word;
        text += word + (text[word] == ' ');
    }
    ebb_write(writer, "\n");
}

/* The help with "(default 11211; 0 to 65535)" behind it. */
static void write_text(struct ebb_writer *writer, const struct ebb_setting *row) {
    char text[1024];
    struct ebb_array_writer array;
    ebb_array_writer_init(&array, text, sizeof(text));
    ebb_write(&array.writer, row->help);
    bool has_default = row->default_text && row->default_text[0];
    bool has_bounds = row->type == EBB_SETTING_NUMBER || row->type == EBB_SETTING_PORT ||
                      row->type == EBB_SETTING_SIZE;
    if (has_default)
        ebb_writef(&array.writer, " (default %s", row->default_text);
    if (has_bounds) {
        ebb_write(&array.writer, has_default ? "; " : " (");
        write_bounds(&array.writer, row);
    }
    if (has_default || has_bounds)
        ebb_write(&array.writer, ")");
    write_wrapped(writer, HELP_INDENT, text);
}

static void write_row(struct ebb_writer *writer, const struct ebb_setting *row) {
    char flag[128];
    struct ebb_array_writer array;
    ebb_array_writer_init(&array, flag, sizeof(flag));
    if (row->short_name)
        ebb_writef(&array.writer, "  -%c, --%s", row->short_name, row->long_name);
    else
        ebb_writef(&array.writer, "      --%s", row->long_name);
    if (takes_value(row) && row->argument && row->argument[0])
        ebb_writef(&array.writer, " %s", row->argument);
    ebb_write(writer, flag);
    if (array.used + 2 > HELP_INDENT)
        ebb_writef(writer, "\n%*s", HELP_INDENT, "");
    else
        ebb_writef(writer, "%*s", HELP_INDENT - (int)array.used, "");
    write_text(writer, row);
}

static bool first_of_group(const struct ebb_setting *rows, size_t index) {
    for (size_t i = 0; i < index; i++)
        if (strcmp(rows[i].group, rows[index].group) == 0)
            return false;
    return true;
}

void ebb_settings_write_help(const struct ebb_setting *rows, size_t count,
                             struct ebb_writer *writer) {
    for (size_t i = 0; i < count; i++) {
        if (!first_of_group(rows, i))
            continue;
        ebb_writef(writer, "%s%s:\n", i ? "\n" : "", rows[i].group);
        for (size_t j = i; j < count; j++)
            if (strcmp(rows[j].group, rows[i].group) == 0)
                write_row(writer, &rows[j]);
    }
}
