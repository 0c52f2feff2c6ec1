/* Forks in the middle of load: threads allocate, check and drop while the process forks and starts
 * programs. The child's copy of the heap is whole and its collector works; the parent goes on. */
#include "harness.h"

#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <ebb/leak.h>
#include <ebb/mem.h>
#include <ebb/resource.h>
#include <ebb/thread.h>

#define THREADS     3
#define FORKS       20
#define CHAIN       200
#define CHILD_BYTES (64 * 1024)
#define CHILD_MADE  500
#define CHILD_LIMIT 60 /* seconds: a child that stands still is ended by its alarm */

struct link {
    struct link *next;
    uint64_t number;
};

#define TEST_TYPES(ROW) ROW(link, EBB_POINTERS, EBB_SHARED, "a member of a chain")
TEST_TYPES(EBB_TYPE_DECLARE)
TEST_TYPES(EBB_TYPE_DEFINE)
static struct ebb_type *const types[] = {TEST_TYPES(EBB_TYPE_ADDRESS)};

static _Atomic bool end;
static _Atomic uint64_t rounds;
static struct link *kept; /* what a child must find whole */

static struct link *chain_new(void) {
    struct link *first = NULL;
    for (uint64_t i = 0; i < CHAIN; i++) {
        struct link *link = ebb_new(link);
        link->number = i;
        link->next = first;
        first = link;
    }
    return first;
}

static bool chain_is_whole(const struct link *link) {
    uint64_t wanted = CHAIN;
    for (; link != NULL; link = link->next)
        if (link->number != --wanted)
            return false;
    return wanted == 0;
}

static void work(void *arg) {
    int *wrong = arg;
    while (!atomic_load(&end)) {
        struct link *chain = chain_new();
        memset(ebb_bytes(CHILD_BYTES), 1, CHILD_BYTES);
        *wrong += !chain_is_whole(chain);
        atomic_fetch_add(&rounds, 1);
    }
}

/* What the child tells: 0, or what was wrong. It has the forking thread alone. */
static int in_child(void) {
    alarm(CHILD_LIMIT);
    if (!chain_is_whole(kept))
        return 2;
    for (int i = 0; i < CHILD_MADE; i++) {
        struct link *chain = chain_new();
        memset(ebb_bytes(CHILD_BYTES), 2, CHILD_BYTES);
        if (!chain_is_whole(chain))
            return 3;
    }
    ebb_collect_fully(EBB_CAUSE_demand);
    return chain_is_whole(kept) ? 0 : 4;
}

static void wait_for_rounds(void) {
    uint64_t before = atomic_load(&rounds);
    while (atomic_load(&rounds) < before + THREADS)
        usleep(100);
}

START_TEST(a_fork_in_the_middle_of_load_leaves_both_sides_whole) {
    struct ebb_thread *thread[THREADS];
    int wrong[THREADS] = {0};
    atomic_store(&end, false);
    kept = chain_new();
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(ebb_thread_start(&thread[i], "worker", work, &wrong[i]), EBB_OK);
    for (int i = 0; i < FORKS; i++) {
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0)
            _exit(in_child());
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "fork %d: status %#x", i,
                      status);
        wait_for_rounds();
    }
    ebb_collect_fully(EBB_CAUSE_demand);
    atomic_store(&end, true);
    for (int i = 0; i < THREADS; i++) {
        ebb_thread_join(thread[i]);
        ck_assert_int_eq(wrong[i], 0);
    }
    ck_assert(chain_is_whole(kept));
}
END_TEST

START_TEST(programs_start_in_the_middle_of_load) {
    static const char *const words[] = {"/bin/sh", "-c", "exit 5", NULL};
    struct ebb_thread *thread[THREADS];
    struct ebb_scope *scope = ebb_scope_new("programs");
    int wrong[THREADS] = {0};
    atomic_store(&end, false);
    for (int i = 0; i < THREADS; i++)
        ck_assert_int_eq(ebb_thread_start(&thread[i], "worker", work, &wrong[i]), EBB_OK);
    for (int i = 0; i < FORKS; i++) {
        ebb_fd child;
        int status = 0;
        ck_assert_int_eq(ebb_child_open(&child, scope, words, (int[]){-1, -1, -1}), EBB_OK);
        ck_assert_int_eq(ebb_child_wait(child, &status), EBB_OK);
        ck_assert_int_eq(status, 5);
        ebb_fd_close(child);
        wait_for_rounds();
    }
    atomic_store(&end, true);
    for (int i = 0; i < THREADS; i++) {
        ebb_thread_join(thread[i]);
        ck_assert_int_eq(wrong[i], 0);
    }
    ebb_scope_close(scope);
}
END_TEST

/* Names are looked up nearly all the time. */
static void describe(void *arg) {
    (void)arg;
    const struct ebb_site site = {.frame = {(uintptr_t)describe + 1}};
    char text[128];
    while (!atomic_load(&end)) {
        ebb_site_describe(&site, 1, text, sizeof text);
        atomic_fetch_add(&rounds, 1);
    }
}

static int describe_in_child(void) {
    const struct ebb_site site = {.frame = {(uintptr_t)describe + 1}};
    char text[128];
    signal(SIGALRM, SIG_DFL); /* Check would kill us all */
    alarm(CHILD_LIMIT / 4);
    ebb_site_describe(&site, 1, text, sizeof text);
    return strncmp(text, "describe", strlen("describe")) == 0 ? 0 : 2;
}

START_TEST(a_child_looks_up_names_though_the_parent_did_just_then) {
    struct ebb_thread *thread;
    atomic_store(&end, false);
    ck_assert_int_eq(ebb_thread_start(&thread, "names", describe, NULL), EBB_OK);
    for (int i = 0; i < 3; i++) {
        usleep(3000);
        pid_t child = fork();
        ck_assert_int_ge(child, 0);
        if (child == 0)
            _exit(describe_in_child());
        int status;
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "fork %d: status %#x", i,
                      status);
    }
    atomic_store(&end, true);
    ebb_thread_join(thread);
}
END_TEST

int main(void) {
    harness_collector();
    ebb_types_add(types, 1);
    const TTest *const tests[] = {a_fork_in_the_middle_of_load_leaves_both_sides_whole,
                                  programs_start_in_the_middle_of_load,
                                  a_child_looks_up_names_though_the_parent_did_just_then};
    return harness_run("fork", tests, sizeof(tests) / sizeof(tests[0]));
}
