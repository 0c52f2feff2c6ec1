/* harness -- what every unit test program shares.
 *
 *   START_TEST(an_expired_item_is_a_miss) { ... } END_TEST
 *   HARNESS_MAIN("store", an_expired_item_is_a_miss, ...)
 *
 * Tests run in the program itself, one after another (CK_FORK=no): the collector's marker threads
 * do not live on in a fork. So a test leaves the process as it found it, and a crash ends the whole
 * program; ctest limits the time. */
#ifndef EBB_TEST_HARNESS_H
#define EBB_TEST_HARNESS_H

#include <check.h>
#include <ebb/collector.h>
#include <ebb/err.h>
#include <ebb/mem.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Starts the collector with the profile of the build that is tested. Again does nothing. */
static inline void harness_collector(void) {
    static struct ebb_profile profile;
    if (profile.name[0])
        return;
    enum ebb_err error = ebb_profile_read(&profile, EBB_PROFILE_DEFAULT);
    if (error != EBB_OK) { /* Check's own assertions work inside a test only */
        fprintf(stderr, "profile " EBB_PROFILE_DEFAULT ": %s\n", ebb_err_text());
        exit(EXIT_FAILURE);
    }
    ebb_collector_start(&profile);
}

/* A call that must not fail. */
static inline void ok(enum ebb_err err) {
    ck_assert_msg(err == EBB_OK, "%s", ebb_err_text());
}

static inline int harness_run(const char *name, const TTest *const *tests, size_t count) {
    Suite *suite = suite_create(name);
    TCase *all = tcase_create(name);
    tcase_set_timeout(all, 0);
    for (size_t i = 0; i < count; i++)
        tcase_add_test(all, tests[i]);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_set_fork_status(runner, CK_NOFORK);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* What waitpid says of a child that misuses something and says so where nobody reads; it leaves
 * with 7 when it survives. */
static inline int harness_status_of(void (*misuse)(void)) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(open("/dev/null", O_WRONLY), STDERR_FILENO);
        misuse();
        _exit(7);
    }
    int status = 0;
    waitpid(child, &status, 0);
    return status;
}

#define HARNESS_MAIN(name, ...)                                                                    \
    int main(void) {                                                                               \
        const TTest *const tests[] = {__VA_ARGS__};                                                \
        return harness_run(name, tests, sizeof(tests) / sizeof(tests[0]));                         \
    }

/* The same for tests that need the collector: it is started from main, whose frame outlives all
 * objects. */
#define HARNESS_MAIN_COLLECTED(name, ...)                                                          \
    int main(void) {                                                                               \
        harness_collector();                                                                       \
        const TTest *const tests[] = {__VA_ARGS__};                                                \
        return harness_run(name, tests, sizeof(tests) / sizeof(tests[0]));                         \
    }

#endif
