/* GC_find_leak as a second opinion: the collector's own finder names OWNED objects too. */
#include "harness.h"
#include <ebb/collector.h>
#include <ebb/mem.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

EBB_TYPE_DEFINE(planted, EBB_POINTERS, EBB_OWNED, "an object that somebody forgets")

static __attribute__((noinline)) void plant(int n, bool goodbye) {
    for (int i = 0; i < n; i++) {
        void *object = ebb_new_sized(&ebb_type_planted, 64);
        if (goodbye)
            ebb_done(object);
    }
}

START_TEST(the_collectors_own_finder_reports_the_forgotten_and_only_them) {
    static struct ebb_type *const types[] = {&ebb_type_planted};
    ebb_types_add(types, 1);
    char text[16384];
    int told[2], kept = dup(2);
    ck_assert_int_eq(pipe(told), 0);
    dup2(told[1], 2);
    plant(20, true);
    ebb_collect_fully(EBB_CAUSE_demand);
    fcntl(told[0], F_SETFL, O_NONBLOCK);
    ssize_t before = read(told[0], text, sizeof text - 1);
    plant(20, false);
    ebb_collect_fully(EBB_CAUSE_demand);
    dup2(kept, 2);
    close(told[1]);
    ssize_t got = read(told[0], text, sizeof text - 1);
    ck_assert_int_le(before, 0);
    ck_assert_int_gt(got, 0);
    text[got] = '\0';
    int leaks = 0;
    for (const char *at = text; (at = strstr(at, "object at ")) != NULL; at++)
        leaks++;
    ck_assert_msg(leaks >= 18 && leaks <= 20, "%d reports:\n%s", leaks, text);
}
END_TEST

int main(void) {
    struct ebb_profile profile;
    if (ebb_profile_read(&profile, EBB_PROFILE_DEFAULT) != EBB_OK) {
        fprintf(stderr, "%s\n", ebb_err_text());
        return EXIT_FAILURE;
    }
    profile.find_leak = true;
    ebb_collector_start(&profile);
    const TTest *const tests[] = {the_collectors_own_finder_reports_the_forgotten_and_only_them};
    return harness_run("find_leak", tests, 1);
}
