/* names: who reads debug information may die of it; then names are missing, and nothing else. */
#include "harness.h"

#include <ebb/leak.h>
#include <ebb/mem.h>
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gc/names.h"

enum { TEXT = 512, QUESTIONS = 3 };

static void (*in_child)(void); /* what a forked child does first */

static void on_fork(void) {
    if (in_child)
        in_child();
}

static void dies(void) {
    raise(SIGKILL);
}

static void hangs(void) {
    for (;;)
        pause();
}

/* A place in a function that the dynamic linker does not know. */
static __attribute__((noinline)) struct ebb_site this_place(void) {
    return (struct ebb_site){
        .frame = {(uintptr_t)__builtin_extract_return_addr(__builtin_return_address(0))}};
}

static __attribute__((noinline)) struct ebb_site unknown_to_the_linker(void) {
    struct ebb_site site = this_place();
    __asm__ volatile("" ::: "memory"); /* no tail call: the frame stays */
    return site;
}

static const char *described(void) {
    static char text[TEXT];
    struct ebb_site site = unknown_to_the_linker();
    ebb_site_describe(&site, 1, text, sizeof text);
    return text;
}

static bool is_named(const char *text) {
    return strncmp(text, "unknown_to_the_linker (test_names.c:", 36) == 0;
}

static bool is_place_in_file(const char *text) {
    return strncmp(text, "test_ebb_gc_names+0x", 20) == 0;
}

static bool has_no_child(void) {
    return waitpid(-1, NULL, WNOHANG) == -1 && errno == ECHILD;
}

START_TEST(a_place_is_told_by_function_file_and_line_and_nothing_stays_behind) {
    int before = dup(STDERR_FILENO);
    close(before);
    ck_assert_msg(is_named(described()), "%s", described());
    int after = dup(STDERR_FILENO);
    close(after);
    ck_assert_int_eq(before, after);
    ck_assert(has_no_child());
}
END_TEST

START_TEST(a_reader_that_dies_costs_the_names_only) {
    in_child = dies;
    const char *text = described();
    ck_assert_msg(is_place_in_file(text), "%s", text);
    in_child = NULL;
    ck_assert(has_no_child());
    ck_assert_msg(is_named(described()), "%s", described());
}
END_TEST

START_TEST(a_reader_that_hangs_is_asked_once_and_ended) {
    char text[TEXT];
    int answered = 0;
    in_child = hangs;
    ebbi_names_begin();
    for (int i = 0; i < QUESTIONS; i++)
        answered += ebbi_name_ask(NAME_OF_FUNCTION, (uintptr_t)described, text, sizeof text);
    in_child = NULL;
    ck_assert(has_no_child());
    ebbi_names_end();
    ck_assert_int_eq(answered, 0);
    ck_assert_msg(is_named(described()), "%s", described());
}
END_TEST

START_TEST(without_a_descriptor_the_place_in_the_file_is_told) {
    struct rlimit before, none;
    getrlimit(RLIMIT_NOFILE, &before);
    none = (struct rlimit){.rlim_cur = 3, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &none);
    const char *text = described();
    bool place = is_place_in_file(text);
    setrlimit(RLIMIT_NOFILE, &before);
    ck_assert_msg(place, "%s", text);
    ck_assert_msg(is_named(described()), "%s", described());
}
END_TEST

int main(void) {
    harness_collector();
    pthread_atfork(NULL, NULL, on_fork);
    const TTest *const tests[] = {
        a_place_is_told_by_function_file_and_line_and_nothing_stays_behind,
        a_reader_that_dies_costs_the_names_only,
        a_reader_that_hangs_is_asked_once_and_ended,
        without_a_descriptor_the_place_in_the_file_is_told,
    };
    return harness_run("names", tests, sizeof tests / sizeof tests[0]);
}
