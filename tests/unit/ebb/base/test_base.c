/* base: errors, clocks, hash, base64, writers, lists and the panic. */
#include "harness.h"

#include <ebb/assert.h>
#include <ebb/base64.h>
#include <ebb/clock.h>
#include <ebb/hash.h>
#include <ebb/list.h>
#include <ebb/writer.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

START_TEST(an_error_keeps_its_sentence_and_may_quote_the_last_one) {
    ck_assert_int_eq(ebb_err_set(EBB_ERR_BUSY, "port %d is in use", 7), EBB_ERR_BUSY);
    ck_assert_str_eq(ebb_err_text(), "port 7 is in use");
    ck_assert_int_eq(ebb_err_set(EBB_ERR_SYSTEM, "admin: %s", ebb_err_text()), EBB_ERR_SYSTEM);
    ck_assert_str_eq(ebb_err_text(), "admin: port 7 is in use");
}
END_TEST

START_TEST(a_long_sentence_is_cut_at_511_bytes) {
    char text[2000];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = 0;
    ck_assert_int_eq(ebb_err_set(EBB_ERR_LIMIT, "%s", text), EBB_ERR_LIMIT);
    ck_assert_uint_eq(strlen(ebb_err_text()), 511);
}
END_TEST

START_TEST(the_clock_never_goes_back_and_cpu_time_rises) {
    uint64_t start = ebb_clock_ns(), cpu = ebb_clock_cpu_ns();
    for (int i = 0; i < 100000; i++) {
        uint64_t now = ebb_clock_ns();
        ck_assert_uint_ge(now, start);
        start = now;
    }
    ck_assert_uint_gt(ebb_clock_cpu_ns(), cpu);
    ck_assert_uint_gt(ebb_clock_unix_ns(), 1700000000ull * EBB_NS_PER_SECOND);
}
END_TEST

START_TEST(the_hash_is_xxh3_and_depends_on_seed_and_bytes) {
    ck_assert_uint_eq(ebb_hash("", 0, 0),
                      0x2d06800538d394c2ull); /* XXH3_64bits of nothing, xxhash.h */
    ck_assert_uint_ne(ebb_hash("key", 3, 1), ebb_hash("key", 3, 2));
    ck_assert_uint_ne(ebb_hash("key", 3, 1), ebb_hash("kez", 3, 1));
    ck_assert_uint_ne(ebb_hash_seed(), ebb_hash_seed());
}
END_TEST

START_TEST(an_array_writer_ends_in_nul_and_says_when_it_was_cut) {
    char text[8];
    struct ebb_array_writer array;
    ebb_array_writer_init(&array, text, sizeof(text));
    ebb_write(&array.writer, "abc");
    ebb_writef(&array.writer, "%d", 1234);
    ck_assert_str_eq(text, "abc1234");
    ck_assert(!array.cut);
    ebb_write(&array.writer, "!");
    ck_assert_str_eq(text, "abc1234");
    ck_assert(array.cut);
}
END_TEST

START_TEST(a_json_string_escapes_what_json_cannot_hold) {
    char text[128];
    struct ebb_array_writer array;
    ebb_array_writer_init(&array, text, sizeof(text));
    ebb_write_json_string(&array.writer, "a\"b\\c\n\x01\0d\xc3\xa9", 11);
    ck_assert_str_eq(text, "a\\\"b\\\\c\\n\\u0001\\u0000d\xc3\xa9");
}
END_TEST

/* Each is a piece of JSON; what is no UTF-8 becomes U+FFFD, byte by byte. */
START_TEST(a_json_string_is_utf8_whatever_the_bytes_are) {
    static const struct {
        const char *bytes, *text;
    } cases[] = {
        {"\xf0\x9f\x98\x80\xe2\x82\xac\xc3\xbc\xf4\x8f\xbf\xbf",
         "\xf0\x9f\x98\x80\xe2\x82\xac\xc3\xbc\xf4\x8f\xbf\xbf"},
        {"a\xff"
         "b\x80",
         "a\\ufffdb\\ufffd"},
        {"\xc0\xaf", "\\ufffd\\ufffd"},                       /* too long a form */
        {"\xe0\x9f\xbf", "\\ufffd\\ufffd\\ufffd"},            /* the same in three bytes */
        {"\xed\xa0\x80", "\\ufffd\\ufffd\\ufffd"},            /* half of a pair of UTF-16 */
        {"\xf4\x90\x80\x80", "\\ufffd\\ufffd\\ufffd\\ufffd"}, /* beyond the last */
        {"\xe2\x82\"", "\\ufffd\\ufffd\\\""},                 /* ends too early */
        {"\xe2\x82", "\\ufffd\\ufffd"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[128];
        struct ebb_array_writer array;
        ebb_array_writer_init(&array, text, sizeof(text));
        ebb_write_json_string(&array.writer, cases[i].bytes, strlen(cases[i].bytes));
        ck_assert_str_eq(text, cases[i].text);
    }
}
END_TEST

START_TEST(a_descriptor_writer_stops_at_the_first_error) {
    int pipes[2];
    ck_assert_int_eq(pipe(pipes), 0);
    struct ebb_fd_writer file;
    ebb_fd_writer_init(&file, pipes[1]);
    ebb_write(&file.writer, "hello");
    char text[8] = "";
    ck_assert_int_eq(read(pipes[0], text, sizeof(text)), 5);
    ck_assert_str_eq(text, "hello");
    ck_assert(!file.failed);
    close(pipes[1]);
    ebb_write(&file.writer, "gone");
    ck_assert(file.failed);
    close(pipes[0]);
}
END_TEST

struct member {
    int value;
    struct ebb_list link;
};

START_TEST(a_list_keeps_order_while_members_leave) {
    struct ebb_list head = EBB_LIST_INIT(head);
    struct member members[3] = {{.value = 1}, {.value = 2}, {.value = 3}};
    ebb_list_append(&head, &members[1].link);
    ebb_list_append(&head, &members[2].link);
    ebb_list_prepend(&head, &members[0].link);
    int seen = 0;
    EBB_LIST_EACH (&head, link) {
        struct member *member = EBB_LIST_ENTRY(link, struct member, link);
        ck_assert_int_eq(member->value, ++seen);
        ebb_list_remove(link);
        ebb_list_remove(link); /* off the list already: nothing happens */
    }
    ck_assert_int_eq(seen, 3);
    ck_assert(ebb_list_empty(&head));
}
END_TEST

START_TEST(a_failed_assertion_names_its_place_and_what_it_held) {
    int pipes[2];
    ck_assert_int_eq(pipe(pipes), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child == 0) {
        dup2(pipes[1], STDERR_FILENO);
        signal(SIGABRT, SIG_DFL);
        int fds = 3;
        ebb_assert(fds == 4, "fds %d", fds);
        _exit(0);
    }
    close(pipes[1]);
    char text[512] = "";
    ck_assert_int_gt(read(pipes[0], text, sizeof(text) - 1), 0);
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
    ck_assert_ptr_nonnull(strstr(text, "ebb: panic: "));
    ck_assert_ptr_nonnull(strstr(text, "test_base.c:"));
    ck_assert_ptr_nonnull(strstr(text, "fds == 4: fds 3\n"));
    close(pipes[0]);
}
END_TEST

START_TEST(base64_goes_there_and_back) {
    for (size_t length = 1; length <= 64; length++) {
        char bytes[64], text[EBB_BASE64_LENGTH(64)], back[64];
        for (size_t i = 0; i < length; i++)
            bytes[i] = (char)(i * 37 + length);
        char *end = ebb_base64_write(text, (struct ebb_span){bytes, length});
        ck_assert_uint_eq((size_t)(end - text), EBB_BASE64_LENGTH(length));
        ck_assert_uint_eq(ebb_base64_decode((struct ebb_span){text, (size_t)(end - text)}, back),
                          length);
        ck_assert_mem_eq(bytes, back, length);
    }
}
END_TEST

START_TEST(base64_is_read_as_leniently_as_memcached_reads_it) {
    char out[64];
    ck_assert_uint_eq(ebb_base64_decode(EBB_SPAN("!Y!Q!=!="), out), 1);
    ck_assert_uint_eq(ebb_base64_decode(EBB_SPAN("YQ==YQ=="), out), 1);
    ck_assert_uint_eq(ebb_base64_decode(EBB_SPAN("YQ"), out), 0);
    ck_assert_uint_eq(ebb_base64_decode(EBB_SPAN("===="), out), 0);
    ck_assert_uint_eq(ebb_base64_decode(EBB_SPAN("A==="), out), 0);
    ck_assert_uint_eq(ebb_base64_decode(EBB_SPAN("!!!!"), out), 0);
}
END_TEST

HARNESS_MAIN("base", an_error_keeps_its_sentence_and_may_quote_the_last_one,
             a_long_sentence_is_cut_at_511_bytes, the_clock_never_goes_back_and_cpu_time_rises,
             the_hash_is_xxh3_and_depends_on_seed_and_bytes,
             an_array_writer_ends_in_nul_and_says_when_it_was_cut,
             a_json_string_escapes_what_json_cannot_hold,
             a_json_string_is_utf8_whatever_the_bytes_are,
             a_descriptor_writer_stops_at_the_first_error, a_list_keeps_order_while_members_leave,
             base64_goes_there_and_back, base64_is_read_as_leniently_as_memcached_reads_it,
             a_failed_assertion_names_its_place_and_what_it_held)
