/* setting: every way to give a flag, bounds, refusals that name what is allowed, and --help. */
#include "harness.h"

#include <ebb/setting.h>
#include <string.h>

#define SETTINGS(ROW)                                                                              \
    ROW(port, NUMBER, 'p', "port", "11211", 0, 65535, "Network", "<num>", "TCP port")              \
    ROW(host, LIST, 'l', "listen", NULL, 0, 0, "Network", "<addr>", "address to listen on")        \
    ROW(memory, SIZE, 'm', "memory", "64m", 1024, 1099511627776, "Memory", "<size>",               \
        "how much memory the items may use before the oldest of them are thrown away to make "     \
        "room")                                                                                    \
    ROW(verbose, COUNT, 'v', "verbose", NULL, 0, 3, "Log", "", "say more; up to three times")      \
    ROW(background, FLAG, 'd', "daemon", NULL, 0, 0, "Process", "", "run in the background")       \
    ROW(on, FLAG, 0, "on", "on", 0, 0, "Process", "", "is on")                                     \
    ROW(udp, PORT, 'U', "udp-port", "0", 0, 65535, "Network", "<num>", "UDP port")                 \
    ROW(ports_file, TEXT, 0, "ports-file", NULL, 0, 0, "Network", "<file>", "where ports stand")   \
    ROW(log_file, TEXT, 0, "log-file", NULL, 0, 0, "Log", "<file>", "where the log goes")          \
    ROW(memory_max, NUMBER, 0, "memory-max", NULL, 0, 9, "Memory", "<num>", "a bound")             \
    ROW(memory_file, TEXT, 'e', "memory-file", NULL, 0, 0, "Memory", "<file>", "a file")           \
    ROW(user, TEXT, 'u', "user", NULL, 0, 0, "Process", "<name>", "user to become")

struct settings {
    SETTINGS(EBB_SETTING_MEMBER)
};

static const struct ebb_setting rows[] = {
#define ROW(...) EBB_SETTING_ROW(settings, __VA_ARGS__)
    SETTINGS(ROW)};
static const size_t rows_count = sizeof(rows) / sizeof(rows[0]);
static struct settings settings;

/* Parses up to four words. */
static enum ebb_err parse(const char *a, const char *b, const char *c, const char *d) {
    char *argv[6] = {(char *)"ebbd", (char *)a, (char *)b, (char *)c, (char *)d, NULL};
    int argc = 1;
    while (argv[argc])
        argc++;
    memset(&settings, 0, sizeof(settings));
    return ebb_settings_parse(rows, rows_count, &settings, argc, argv);
}

START_TEST(without_flags_everything_is_the_default) {
    ck_assert_int_eq(parse(NULL, NULL, NULL, NULL), EBB_OK);
    ck_assert_uint_eq(settings.port, 11211);
    ck_assert_uint_eq(settings.memory, 64 << 20);
    ck_assert(!settings.background);
    ck_assert(settings.on);
    ck_assert_ptr_null(settings.user);
    ck_assert_uint_eq(settings.host.count, 0);
    ck_assert_uint_eq(settings.verbose, 0);
}
END_TEST

START_TEST(a_value_may_stand_in_all_four_places) {
    const char *ways[][2] = {{"--port=1", NULL}, {"--port", "1"}, {"-p1", NULL}, {"-p", "1"}};
    for (size_t i = 0; i < 4; i++) {
        ck_assert_int_eq(parse(ways[i][0], ways[i][1], NULL, NULL), EBB_OK);
        ck_assert_uint_eq(settings.port, 1);
    }
}
END_TEST

START_TEST(short_flags_may_be_bundled_and_lists_repeated) {
    ck_assert_int_eq(parse("-vdp22", "-vl", "127.0.0.1", "--listen=::1"), EBB_OK);
    ck_assert_uint_eq(settings.verbose, 2);
    ck_assert(settings.background);
    ck_assert_uint_eq(settings.port, 22);
    ck_assert_uint_eq(settings.host.count, 2);
    ck_assert_str_eq(settings.host.value[0], "127.0.0.1");
    ck_assert_str_eq(settings.host.value[1], "::1");
}
END_TEST

START_TEST(sizes_take_units_and_the_last_one_given_counts) {
    ck_assert_int_eq(parse("-m2k", "-m", "3G", NULL), EBB_OK);
    ck_assert_uint_eq(settings.memory, 3ull << 30);
    ck_assert_int_eq(parse("-m1024", NULL, NULL, NULL), EBB_OK);
    ck_assert_uint_eq(settings.memory, 1024);
}
END_TEST

static const struct {
    const char *words[2], *sentence;
} refusals[] = {
    {{"--port=65536", NULL}, "--port (-p): \"65536\" is out of bounds; allowed: 0 to 65535"},
    {{"--port=18446744073709551616", NULL},
     "--port (-p): \"18446744073709551616\" is out of bounds; allowed: 0 to 65535"},
    {{"-p", "-1"}, "--port (-p): \"-1\" is not a number; allowed: 0 to 65535"},
    {{"-p", ""}, "--port (-p): \"\" is not a number; allowed: 0 to 65535"},
    {{"-p", "1k"}, "--port (-p): \"1k\" is not a number; allowed: 0 to 65535"},
    {{"-p", " 1"}, "--port (-p): \" 1\" is not a number; allowed: 0 to 65535"},
    {{"-m", "5mb"},
     "--memory (-m): \"5mb\" is not a number; allowed: 1k to 1024g, as bytes or with k, m or g"},
    {{"-m", "1023"},
     "--memory (-m): \"1023\" is out of bounds; allowed: 1k to 1024g, as bytes or with k, m or g"},
    {{"-m", "17179869185g"}, /* times the unit it is 1 GiB again in 64 bits */
     "--memory (-m): \"17179869185g\" is out of bounds; allowed: 1k to 1024g, as bytes or with k, "
     "m "
     "or g"},
    {{"-p", NULL}, "--port (-p) needs a value: <num>"},
    {{"--port", NULL}, "--port (-p) needs a value: <num>"},
    {{"--daemon=yes", NULL}, "--daemon (-d) takes no value, but \"--daemon=yes\" was given"},
    {{"--nothing", NULL}, "\"--nothing\" is no flag; --help lists them all"},
    {{"-d", "-Z"}, "-Z is no flag; --help lists them all"},
    {{"--mem=1", NULL}, "\"--mem=1\" is short for more than one flag: --memory --memory-file"},
    {{"-U", "-2"},
     "--udp-port (-U): \"-2\" is not a number; allowed: 0 to 65535, or -1: any free one"},
    {{"-U", "65536"},
     "--udp-port (-U): \"65536\" is out of bounds; allowed: 0 to 65535, or -1: any free one"},
    {{"word", NULL}, "\"word\" is no flag; --help lists them all"},
    {{"-d", "word"}, "\"word\" is no flag; --help lists them all"},
};

START_TEST(each_refusal_names_the_flag_the_value_and_what_is_allowed) {
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        enum ebb_err error = parse(refusals[i].words[0], refusals[i].words[1], NULL, NULL);
        ck_assert_int_eq(error, EBB_ERR_USAGE);
        ck_assert_str_eq(ebb_err_text(), refusals[i].sentence);
    }
}
END_TEST

START_TEST(a_long_name_may_be_cut_short_and_one_without_a_letter_makes_none_ambiguous) {
    ck_assert_int_eq(parse("--por=7", "--lis", "::1", "--verb"), EBB_OK);
    ck_assert_uint_eq(settings.port, 7); /* not --ports-file */
    ck_assert_uint_eq(settings.host.count, 1);
    ck_assert_uint_eq(settings.verbose, 1);
    ck_assert_int_eq(parse("--l=x", "--log=y", "--ports=z", "--memory=2k"), EBB_OK);
    ck_assert_str_eq(settings.host.value[0], "x"); /* not --log-file */
    ck_assert_str_eq(settings.log_file, "y");
    ck_assert_str_eq(settings.ports_file, "z");
    ck_assert_uint_eq(settings.memory, 2048); /* a whole name */
    ck_assert_int_eq(parse("--memory-m=3", "-d", NULL, NULL), EBB_OK);
    ck_assert_uint_eq(settings.memory_max, 3);
    ck_assert_int_eq(parse("-u", "--mem", NULL, NULL), EBB_OK); /* a value, not a flag */
    ck_assert_str_eq(settings.user, "--mem");
}
END_TEST

START_TEST(a_port_may_be_any_free_one) {
    ck_assert_int_eq(parse("-U", "-1", NULL, NULL), EBB_OK);
    ck_assert_uint_eq(settings.udp, EBB_PORT_ANY);
    ck_assert_int_eq(parse("--udp-port=-1", NULL, NULL, NULL), EBB_OK);
    ck_assert_uint_eq(settings.udp, EBB_PORT_ANY);
    ck_assert_int_eq(parse("-U65535", NULL, NULL, NULL), EBB_OK);
    ck_assert_uint_eq(settings.udp, 65535);
}
END_TEST

START_TEST(a_list_has_an_end) {
    char *argv[EBB_SETTING_LIST_MAX + 3] = {(char *)"ebbd"};
    for (int i = 1; i <= EBB_SETTING_LIST_MAX + 1; i++)
        argv[i] = (char *)"-l::1";
    memset(&settings, 0, sizeof(settings));
    ck_assert_int_eq(
        ebb_settings_parse(rows, rows_count, &settings, EBB_SETTING_LIST_MAX + 1, argv), EBB_OK);
    memset(&settings, 0, sizeof(settings));
    ck_assert_int_eq(
        ebb_settings_parse(rows, rows_count, &settings, EBB_SETTING_LIST_MAX + 2, argv),
        EBB_ERR_USAGE);
    ck_assert_str_eq(ebb_err_text(), "--listen (-l): \"::1\" is one too many; allowed: 32 times");
}
END_TEST

START_TEST(help_shows_every_row_with_default_and_bounds_in_80_columns) {
    char text[8192];
    struct ebb_array_writer array;
    ebb_array_writer_init(&array, text, sizeof(text));
    ebb_settings_write_help(rows, rows_count, &array.writer);
    ck_assert_ptr_nonnull(strstr(
        text, "Network:\n  -p, --port <num>            TCP port (default 11211; 0 to 65535)\n"
              "  -l, --listen <addr>         address to listen on\n"));
    for (size_t i = 0; i < rows_count; i++)
        ck_assert_ptr_nonnull(strstr(text, rows[i].long_name));
    ck_assert_ptr_nonnull(strstr(text, "(default 64m; 1k to"));
    for (const char *line = text; *line; line += strcspn(line, "\n") + 1)
        ck_assert_uint_le(strcspn(line, "\n"), 80);
}
END_TEST

HARNESS_MAIN("setting", without_flags_everything_is_the_default,
             a_value_may_stand_in_all_four_places, short_flags_may_be_bundled_and_lists_repeated,
             sizes_take_units_and_the_last_one_given_counts,
             each_refusal_names_the_flag_the_value_and_what_is_allowed,
             a_long_name_may_be_cut_short_and_one_without_a_letter_makes_none_ambiguous,
             a_port_may_be_any_free_one, a_list_has_an_end,
             help_shows_every_row_with_default_and_bounds_in_80_columns)
