/* compatibility -- the tables of commands and of differences as a page. */
#include "compatibility.h"

#include <stdbool.h>

static const struct {
    const char *usage, *counts, *help;
} commands[] = {
#define EBB_COMMAND(id, name, form, class, min, usage, counts, example, help) {usage, counts, help},
#include "tbl/commands.def"
};

static const struct {
    const char *where, *what, *why;
} differences[] = {
#define EBB_DIFFERENCE(where, what, why) {where, what, why},
#include "tbl/differences.def"
};

/* A cell of a table: a bar would end it. */
static void write_cell(struct ebb_writer *writer, const char *text) {
    char c[2] = "";
    ebb_write(writer, " ");
    for (; *text; text++) {
        c[0] = *text;
        ebb_write(writer, *text == '|' ? "\\|" : c);
    }
    ebb_write(writer, " |");
}

static void write_code(struct ebb_writer *writer, const char *text) {
    ebb_write(writer, "| `");
    char c[2] = "";
    for (; *text; text++) {
        c[0] = *text;
        ebb_write(writer, *text == '|' ? "\\|" : c);
    }
    ebb_write(writer, "` |");
}

void compatibility_write(struct ebb_writer *writer) {
    ebb_write(
        writer,
        "# Compatibility with memcached\n\n"
        "ebbd speaks what memcached 1.6.18 speaks: the text protocol with the meta commands, and "
        "the binary\nprotocol; and what later versions, up to 1.6.45, do better. The program "
        "itself is the measure:\ntests/e2e/differential.py sends both the same random commands, "
        "whole and broken, and compares every byte\nthat comes back; what differs on purpose is "
        "below, and tests/e2e/differences.py holds what random commands\nmeet of it. Written by "
        "`ebbd --compatibility`; a test keeps it so. Flags: [flags.md](flags.md).\n\n"
        "## Commands\n\n| command | | fields of `stats` |\n|---|---|---|\n");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        write_code(writer, commands[i].usage);
        write_cell(writer, commands[i].help);
        write_cell(writer, commands[i].counts);
        ebb_write(writer, "\n");
    }
    ebb_write(
        writer,
        "\nMeta flags: `b c f h k l O q s t u v x` `I M N R T` `C D E F J`, and `L P`, which are "
        "passed over.\n\n"
        "## What differs, and why\n\n| where | ebbd | why |\n|---|---|---|\n");
    for (size_t i = 0; i < sizeof(differences) / sizeof(differences[0]); i++) {
        ebb_write(writer, "|");
        write_cell(writer, differences[i].where);
        write_cell(writer, differences[i].what);
        write_cell(writer, differences[i].why);
        ebb_write(writer, "\n");
    }
}
