/* request: lines to structs, with memcached's errors. */
#include "harness.h"

#include <ebbd/proto/request.h>
#include <stdio.h>

static struct request parsed(const char *line) {
    static struct request request;
    memset(&request, 0x5a, sizeof(request)); /* what a form does not set must not be needed */
    request_parse(ebb_span_of(line), &request);
    return request;
}

static void is_error(const char *line, const char *sentence) {
    struct request request = parsed(line);
    ck_assert_msg(ebb_span_equal(request.error, ebb_span_of(sentence)),
                  "\"%s\" gave \"%.*s\", not \"%s\"", line, (int)request.error.length,
                  request.error.at, sentence);
}

static void is_fine(const char *line, enum request_verb verb) {
    struct request request = parsed(line);
    ck_assert_msg(request.error.length == 0, "\"%s\" gave \"%.*s\"", line,
                  (int)request.error.length, request.error.at);
    ck_assert_int_eq(request.verb, verb);
}

START_TEST(every_command_is_found_by_its_name) {
#define EBB_COMMAND(id, name, ...) ck_assert_int_eq(parsed(name " 1 2 3 4 5").verb, REQUEST_##id);
#include "ebbd/tbl/commands.def"
    ck_assert_int_eq(parsed("GET k").verb, REQUEST_NONE);
    ck_assert_int_eq(parsed("ge k").verb, REQUEST_NONE);
    ck_assert_int_eq(parsed("getx k").verb, REQUEST_NONE);
}
END_TEST

START_TEST(unknown_lines_are_an_ERROR) {
    static const char *const lines[] = {"xx", "a b", "  ", "GET k", "cache_memlimit", "lru"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        is_error(lines[i], "ERROR");
}
END_TEST

START_TEST(a_missing_word_is_a_bad_line_and_surplus_ones_are_passed_over) {
    static const char *const lines[] = {
        "",        "\r",     "x",   "get",   "get ",   "set k 0 0", "set",  "incr k",
        "touch k", "delete", "gat", "gat 0", "gats 0", "cas k 0",   "decr", "verbosity"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        is_error(lines[i], "CLIENT_ERROR bad command line format");
    is_fine("incr k 1 2 3", REQUEST_incr);
    is_fine("touch k 1 x", REQUEST_touch);
    is_fine("flush_all 0 1 2", REQUEST_flush_all);
    is_fine("verbosity 0 1 2 3", REQUEST_verbosity);
    static const char usage[] =
        "CLIENT_ERROR bad command line format.  Usage: delete <key> [noreply]";
    is_error("delete k 1", usage);
    is_error("delete k 1 noreply", usage);
    is_error("delete k 0 0", usage);
    is_error("delete a b c d", usage);
}
END_TEST

START_TEST(bad_numbers_have_the_error_of_their_command) {
    is_error("set k x 0 1", "CLIENT_ERROR bad command line format");
    is_error("set k -1 0 1", "CLIENT_ERROR bad command line format");
    is_error("set k 0 x 1", "CLIENT_ERROR bad command line format");
    is_error("set k 0 0 x", "CLIENT_ERROR bad command line format");
    is_error("set k 0 0 -1", "CLIENT_ERROR bad command line format");
    is_error("set k 0 0 2147483646", "CLIENT_ERROR bad command line format");
    is_error("cas k 0 0 1 x", "CLIENT_ERROR bad command line format");
    is_error("incr k x", "CLIENT_ERROR invalid numeric delta argument");
    is_error("decr k -1", "CLIENT_ERROR invalid numeric delta argument");
    is_error("touch k x", "CLIENT_ERROR invalid exptime argument");
    is_error("gat x k", "CLIENT_ERROR invalid exptime argument");
    is_error("flush_all x", "CLIENT_ERROR invalid exptime argument");
    is_error("verbosity x", "CLIENT_ERROR bad command line format");
    is_error("cache_memlimit x", "ERROR");
}
END_TEST

START_TEST(a_key_of_250_bytes_is_taken_and_one_of_251_is_not) {
    char key[252], line[600];
    memset(key, 'k', sizeof(key));
    static const char *const forms[] = {"get %s",    "gets a %s",  "gat 0 %s", "set %s 0 0 1",
                                        "incr %s 1", "touch %s 0", "delete %s"};
    for (size_t i = 0; i < sizeof(forms) / sizeof(forms[0]); i++) {
        key[250] = '\0';
        snprintf(line, sizeof(line), forms[i], key); /* NOLINT: the formats are above */
        ck_assert_uint_eq(parsed(line).error.length, 0);
        key[250] = 'k';
        key[251] = '\0';
        snprintf(line, sizeof(line), forms[i], key); /* NOLINT */
        is_error(line, "CLIENT_ERROR bad command line format");
    }
}
END_TEST

START_TEST(noreply_is_the_last_word) {
    ck_assert(parsed("set k 0 0 1 noreply").noreply);
    ck_assert(!parsed("set k 0 0 1 other").noreply);
    ck_assert(parsed("set k x 0 1 noreply").noreply);
    ck_assert(parsed("incr k 1 noreply").noreply);
    ck_assert(parsed("delete k noreply").noreply);
    ck_assert(parsed("delete k 0 noreply").noreply);
    ck_assert(!parsed("delete noreply").noreply);
    ck_assert(parsed("flush_all noreply").noreply);
    ck_assert(parsed("flush_all 5 noreply").noreply);
    ck_assert(parsed("verbosity noreply").noreply);
    ck_assert(!parsed("version noreply").noreply);
    is_fine("delete k 0", REQUEST_delete);
}
END_TEST

START_TEST(a_store_line_gives_its_numbers) {
    struct request request = parsed("  cas  key 7  -3 42 18446744073709551615  noreply ");
    ck_assert_int_eq(request.verb, REQUEST_cas);
    ck_assert(ebb_span_equal(request.key, EBB_SPAN("key")));
    ck_assert_uint_eq(request.client_flags, 7);
    ck_assert_int_eq(request.exptime, -3);
    ck_assert_uint_eq(request.value_length, 42);
    ck_assert_uint_eq(request.number, UINT64_MAX);
    ck_assert(request.noreply);
}
END_TEST

START_TEST(keys_come_one_by_one) {
    struct request request = parsed("get  a bb   ccc ");
    struct ebb_span key;
    ck_assert(request_next_key(&request.keys, &key) && ebb_span_equal(key, EBB_SPAN("a")));
    ck_assert(request_next_key(&request.keys, &key) && ebb_span_equal(key, EBB_SPAN("bb")));
    ck_assert(request_next_key(&request.keys, &key) && ebb_span_equal(key, EBB_SPAN("ccc")));
    ck_assert(!request_next_key(&request.keys, &key));
    request = parsed("gat 9 a");
    ck_assert_int_eq(request.exptime, 9);
    ck_assert(request_next_key(&request.keys, &key) && ebb_span_equal(key, EBB_SPAN("a")));
}
END_TEST

START_TEST(a_nul_does_not_end_the_line) {
    struct request request;
    request_parse((struct ebb_span){"get a\0 b", 8}, &request);
    struct ebb_span key;
    ck_assert(request_next_key(&request.keys, &key) &&
              ebb_span_equal(key, (struct ebb_span){"a\0", 2}));
    ck_assert(request_next_key(&request.keys, &key) && ebb_span_equal(key, EBB_SPAN("b")));
    ck_assert(!request_next_key(&request.keys, &key));
    request_parse((struct ebb_span){"set a\0b 0 0 9", 13}, &request);
    ck_assert(request.has_block && request.error.length == 0 && request.key.length == 3);
}
END_TEST

START_TEST(a_block_follows_once_its_length_is_known) {
    char key[300];
    memset(key, 'k', sizeof(key));
    memcpy(key, "set ", 4);
    strcpy(key + 255, " 0 0 9"); /* NOLINT: it fits */
    const char *const refused[] = {
        "set k x 0 9",    "add k -1 0 9",        "replace k 0 x 9",
        "append k 0 x 9", "prepend k x 0 9 z",   "cas k 0 0 9",
        "cas k 0 0 9 x",  "set k x 0 9 noreply", key,
    };
    for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
        is_error(refused[i], "CLIENT_ERROR bad command line format");
        ck_assert_msg(parsed(refused[i]).has_block, "%s", refused[i]);
        ck_assert_uint_eq(parsed(refused[i]).value_length, 9);
    }
    static const char *const unknown[] = {"set k 0 0", "set k 0 0 x",   "set k 0 0 4294967305",
                                          "touch k 0", "get a b c d e", "SET k 0 0 9"};
    for (size_t i = 0; i < sizeof(unknown) / sizeof(unknown[0]); i++)
        ck_assert_msg(!parsed(unknown[i]).has_block, "%s", unknown[i]);
    is_fine("set k 0 0 9 surplus words", REQUEST_set);
    ck_assert(parsed("set k 0 0 9 surplus noreply").noreply);
}
END_TEST

START_TEST(a_get_left_halfway_goes_on_with_the_keys_that_are_left) {
    static const char *const lines[] = {"get one two three\r\n", "gat -5 one two three\r\n",
                                        "  gats  7  one  two three \n"};
    static const char *const wanted[] = {"one", "two", "three"};
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        char bytes[64];
        size_t length = strlen(lines[i]), at = 0;
        memcpy(bytes, lines[i], length + 1);
        int32_t exptime = 0;
        enum request_verb verb = REQUEST_NONE;
        for (size_t key_number = 0; key_number < 3; key_number++) {
            struct ebb_span line, key;
            size_t taken;
            ck_assert_int_eq(request_find_line(bytes + at, length - at, &line, &taken),
                             REQUEST_LINE);
            ck_assert_uint_eq(at + taken, length);
            struct request request;
            request_parse(line, &request);
            ck_assert_uint_eq(request.error.length, 0);
            if (key_number == 0) {
                verb = request.verb;
                exptime = request.exptime;
            }
            ck_assert_int_eq(request.verb, verb);
            if (request.verb != REQUEST_get)
                ck_assert_int_eq(request.exptime, exptime);
            struct ebb_span rest = request.keys;
            ck_assert(request_next_key(&rest, &key));
            ck_assert(ebb_span_equal(key, ebb_span_of(wanted[key_number])));
            at += request_shorten(bytes + at, &request, rest);
        }
    }
}
END_TEST

START_TEST(a_line_split_anywhere_is_found_once_it_is_whole) {
    static const char bytes[] = "set k 0 0 1\r\nx";
    size_t whole = strlen("set k 0 0 1\r\n");
    struct ebb_span line;
    size_t taken;
    for (size_t length = 0; length < sizeof(bytes) - 1; length++) {
        enum request_found found = request_find_line(bytes, length, &line, &taken);
        ck_assert_int_eq(found, length < whole ? REQUEST_MORE : REQUEST_LINE);
        if (found == REQUEST_LINE) {
            ck_assert_uint_eq(taken, whole);
            ck_assert(ebb_span_equal(line, EBB_SPAN("set k 0 0 1")));
        }
    }
    ck_assert_int_eq(request_find_line("a\n", 2, &line, &taken), REQUEST_LINE);
    ck_assert(ebb_span_equal(line, EBB_SPAN("a")));
    ck_assert_int_eq(request_find_line("\r\n", 2, &line, &taken), REQUEST_LINE);
    ck_assert(ebb_span_equal(line, EBB_SPAN("\r")));
}
END_TEST

START_TEST(only_a_get_may_be_long) {
    static char bytes[REQUEST_KEYS_MAX + 1];
    struct ebb_span line;
    size_t taken;
    memset(bytes, 'a', sizeof(bytes));
    ck_assert_int_eq(request_find_line(bytes, REQUEST_LINE_MAX, &line, &taken), REQUEST_MORE);
    ck_assert_int_eq(request_find_line(bytes, REQUEST_LINE_MAX + 1, &line, &taken), REQUEST_LONG);
    memcpy(bytes, "gat 0 ", 6);
    ck_assert_int_eq(request_find_line(bytes, REQUEST_LINE_MAX + 1, &line, &taken), REQUEST_LONG);
    memcpy(bytes, "get   ", 6);
    ck_assert_int_eq(request_find_line(bytes, REQUEST_LINE_MAX + 1, &line, &taken), REQUEST_MORE);
    ck_assert_int_eq(request_find_line(bytes, REQUEST_KEYS_MAX, &line, &taken), REQUEST_LONG);
    memset(bytes, ' ', 101);
    memcpy(bytes + 101, "gets ", 5);
    ck_assert_int_eq(request_find_line(bytes, REQUEST_LINE_MAX + 1, &line, &taken), REQUEST_LONG);
    memcpy(bytes + 100, "gets ", 5);
    ck_assert_int_eq(request_find_line(bytes, REQUEST_LINE_MAX + 1, &line, &taken), REQUEST_MORE);
}
END_TEST

START_TEST(http_is_hung_up_on) {
    ck_assert(parsed("GET / HTTP/1.1").hang_up);
    ck_assert(!parsed("version HTTP/1.1").hang_up);
    ck_assert(!parsed("Host: here").hang_up);
}
END_TEST

HARNESS_MAIN("request", every_command_is_found_by_its_name, unknown_lines_are_an_ERROR,
             a_missing_word_is_a_bad_line_and_surplus_ones_are_passed_over,
             bad_numbers_have_the_error_of_their_command,
             a_key_of_250_bytes_is_taken_and_one_of_251_is_not, noreply_is_the_last_word,
             a_store_line_gives_its_numbers, keys_come_one_by_one, a_nul_does_not_end_the_line,
             a_block_follows_once_its_length_is_known,
             a_get_left_halfway_goes_on_with_the_keys_that_are_left,
             a_line_split_anywhere_is_found_once_it_is_whole, only_a_get_may_be_long,
             http_is_hung_up_on)
