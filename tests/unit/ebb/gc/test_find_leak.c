/* Two opinions on the same leaks: the watch, and the collector's own finder, each in a process of
 * its own. */
#include "harness.h"
#include <ebb/collector.h>
#include <ebb/leak.h>
#include <ebb/mem.h>
#include <ebb/thread.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* HELD: so many cells may be held by words on stacks that look like pointers to them. */
#if defined(__SANITIZE_ADDRESS__) /* whose frames are large, and mostly not written to */
enum { HELD = 30 };
#else
enum { HELD = 10 };
#endif
enum { TYPES = 3, THREADS = 4, PLANTED = 2000, OTHERS = 3000 };
enum { SLOW_LOST = 300, SLOW_STEP = 64, SLOW_KEPT = SLOW_LOST * SLOW_STEP };

EBB_TYPE_DEFINE(planted_small, EBB_POINTERS, EBB_OWNED, "a small object that somebody forgets")
EBB_TYPE_DEFINE(planted_bytes, EBB_BYTES, EBB_OWNED, "a pointer-free object that somebody forgets")
EBB_TYPE_DEFINE(planted_large, EBB_POINTERS, EBB_OWNED, "a large object that somebody forgets")
EBB_TYPE_DEFINE(slow, EBB_POINTERS, EBB_OWNED, "one of 64 of them is lost")
EBB_TYPE_DEFINE(shared, EBB_POINTERS, EBB_SHARED, "an object that nobody must remember")

static struct ebb_type *const types[] = {&ebb_type_planted_small, &ebb_type_planted_bytes,
                                         &ebb_type_planted_large, &ebb_type_shared, &ebb_type_slow};
static const size_t sizes[TYPES] = {64, 300, 20000};
static const int shares[TYPES] = {PLANTED, PLANTED / 2, PLANTED / 20};

struct opinion {
    uint64_t leaked[TYPES], shared, slow;
    int stderr_bytes;
};

static __attribute__((noinline)) void plant(int type, bool releases) {
    void *object = ebb_new_sized(types[type], sizes[type]);
    if (releases)
        ebb_done(object);
    ebb_keep(object);
}

static void run_thread(void *arg) {
    (void)arg;
    for (int type = 0; type < TYPES; type++)
        for (int i = 0; i < shares[type]; i++) {
            plant(type, true);
            plant(type, false);
        }
    for (int i = 0; i < OTHERS; i++)
        ebb_keep(ebb_new_sized(&ebb_type_shared, 64));
}

static __attribute__((noinline)) void lose_slowly(void) {
    static void *kept[SLOW_KEPT];
    for (int i = 0; i < SLOW_KEPT; i++) {
        void *object = ebb_new_sized(&ebb_type_slow, 64);
        kept[i] = i % SLOW_STEP == 1 ? NULL : object;
    }
    ebb_keep(kept);
}

static void look(bool find_leak, struct opinion *opinion) {
    struct ebb_profile profile;
    if (ebb_profile_read(&profile, EBB_PROFILE_DEFAULT) != EBB_OK)
        _exit(1);
    profile.find_leak = find_leak;
    ebb_collector_start(&profile);
    ebb_types_add(types, TYPES + 2);
    struct ebb_thread *thread[THREADS];
    for (int i = 0; i < THREADS; i++)
        if (ebb_thread_start(&thread[i], "planter", run_thread, NULL) != EBB_OK)
            _exit(1);
    for (int i = 0; i < THREADS; i++)
        ebb_thread_join(thread[i]);
    lose_slowly();
    ebb_collect_fully(EBB_CAUSE_demand);
    opinion->slow = ebb_type_slow.leaked;
    for (int type = 0; type < TYPES; type++)
        opinion->leaked[type] = types[type]->leaked;
    opinion->shared = ebb_type_shared.leaked;
}

/* The opinion of a fresh process. */
static struct opinion ask(bool find_leak) {
    int answer[2], errors[2];
    struct opinion opinion = {{0}, 0, 0, 0};
    ck_assert_int_eq(pipe(answer), 0);
    ck_assert_int_eq(pipe2(errors, O_NONBLOCK), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(errors[1], STDERR_FILENO);
        look(find_leak, &opinion);
        _exit(write(answer[1], &opinion, sizeof opinion) == sizeof opinion ? 0 : 1);
    }
    close(answer[1]);
    ck_assert_int_eq(read(answer[0], &opinion, sizeof opinion), sizeof opinion);
    int status;
    waitpid(child, &status, 0);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    char text[4096];
    ssize_t got = read(errors[0], text, sizeof text - 1);
    opinion.stderr_bytes = got > 0 ? (int)got : 0;
    if (got > 0)
        printf("stderr: %.*s\n", (int)got, text);
    close(answer[0]);
    close(errors[0]);
    close(errors[1]);
    return opinion;
}

START_TEST(the_watch_and_the_collectors_finder_agree_on_thousands_of_leaks_of_several_threads) {
    struct opinion watch = ask(false), finder = ask(true);
    for (int type = 0; type < TYPES; type++) {
        uint64_t planted = (uint64_t)shares[type] * THREADS;
        ck_assert_uint_le(watch.leaked[type], planted);
        ck_assert_uint_ge(watch.leaked[type], planted - HELD);
        ck_assert_uint_le(finder.leaked[type], planted);
        ck_assert_uint_ge(finder.leaked[type], planted - HELD);
    }
    ck_assert_uint_le(watch.slow, SLOW_LOST);
    ck_assert_uint_ge(watch.slow, SLOW_LOST - HELD);
    ck_assert_uint_le(finder.slow, SLOW_LOST);
    ck_assert_uint_ge(finder.slow, SLOW_LOST - HELD);
    ck_assert_uint_eq(watch.shared, 0);
    ck_assert_uint_eq(finder.shared, 0);
    ck_assert_int_eq(finder.stderr_bytes, 0);
}
END_TEST

enum { FORKS = 10, CHILD_LIMIT = 20 };

static _Atomic bool end;

static void run_until_end(void *arg) {
    (void)arg;
    while (!atomic_load(&end))
        plant(0, true);
}

/* 0 when each fork's child could allocate and collect. */
static int fork_with_the_finder(void) {
    struct ebb_profile profile;
    struct ebb_thread *thread[THREADS];
    int status = 0;
    if (ebb_profile_read(&profile, EBB_PROFILE_DEFAULT) != EBB_OK)
        return 1;
    profile.find_leak = true;
    ebb_collector_start(&profile);
    ebb_types_add(types, TYPES + 2);
    for (int i = 0; i < THREADS; i++)
        if (ebb_thread_start(&thread[i], "planter", run_until_end, NULL) != EBB_OK)
            return 1;
    for (int i = 0; i < FORKS && status == 0; i++) {
        pid_t child = fork();
        if (child == 0) {
            signal(SIGALRM, SIG_DFL); /* Check would kill us all */
            alarm(CHILD_LIMIT);
            plant(0, true);
            ebb_collect(EBB_CAUSE_demand);
            _exit(0);
        }
        waitpid(child, &status, 0);
    }
    atomic_store(&end, true);
    for (int i = 0; i < THREADS; i++)
        ebb_thread_join(thread[i]);
    return status == 0 ? 0 : 1;
}

START_TEST(a_child_of_a_fork_allocates_with_the_finder) {
    fflush(NULL);
    pid_t child = fork();
    if (child == 0)
        _exit(fork_with_the_finder());
    int status;
    waitpid(child, &status, 0);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "status %#x", status);
}
END_TEST

HARNESS_MAIN("find_leak", a_child_of_a_fork_allocates_with_the_finder,
             the_watch_and_the_collectors_finder_agree_on_thousands_of_leaks_of_several_threads)
