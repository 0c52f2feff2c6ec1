/* Typed memory: what the census says, what the leak watch finds and names, what misuse does. */
#include "harness.h"
#include <ebb/collector.h>
#include <ebb/leak.h>
#include <ebb/log.h>
#include <ebb/mem.h>
#include <ebb/thread.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct planted {
    char room[48];
    void *next;
};

EBB_TYPE_DEFINE(planted, EBB_POINTERS, EBB_OWNED, "an object that somebody forgets")
EBB_TYPE_DEFINE(planted_shared, EBB_POINTERS, EBB_SHARED, "an object that nobody must remember")
EBB_TYPE_DEFINE(planted_foreign, EBB_POINTERS, EBB_FOREIGN, "a library's object")
EBB_TYPE_DEFINE(planted_large, EBB_BYTES, EBB_OWNED, "a large pointer-free object")

static void add_types(void) {
    static struct ebb_type *const types[] = {&ebb_type_planted, &ebb_type_planted_shared,
                                             &ebb_type_planted_foreign, &ebb_type_planted_large};
    ebb_types_add(types, 4);
}

static __attribute__((noinline)) void clear_stack(void) {
    volatile char old[8192];
    memset((char *)old, 0, sizeof old);
    ebb_keep(old);
}

static void collect(void) {
    clear_stack();
    ebb_collect_fully(EBB_CAUSE_demand);
}

static __attribute__((noinline)) void plant_owned(int n) {
    for (int i = 0; i < n; i++)
        ebb_keep(ebb_new(planted));
}

static __attribute__((noinline)) void plant_large(int n) {
    for (int i = 0; i < n; i++)
        ebb_keep(ebb_new_sized(&ebb_type_planted_large, 100000));
}

static __attribute__((noinline)) void release_some(int n) {
    for (int i = 0; i < n; i++)
        ebb_done(ebb_new(planted));
}

static __attribute__((noinline)) void drop_shared(int n) {
    for (int i = 0; i < n; i++)
        ebb_keep(ebb_new_sized(&ebb_type_planted_shared, 64));
}

/* The log's lines of what is done in between, by a pipe. */
static int log_pipe[2];

static void log_catch(void) {
    ck_assert_int_eq(pipe(log_pipe), 0);
    ebb_log_fd_set(log_pipe[1]);
}

static void log_read(char *out, size_t size) {
    ebb_log_fd_set(2);
    close(log_pipe[1]);
    size_t used = 0;
    ssize_t got;
    while (used < size - 1 && (got = read(log_pipe[0], out + used, size - 1 - used)) > 0)
        used += (size_t)got;
    out[used] = '\0';
    close(log_pipe[0]);
}

START_TEST(a_forgotten_owned_object_is_counted_and_named_once) {
    add_types();
    char log[8192];
    uint64_t before = ebb_leaks_count();
    log_catch();
    plant_owned(200);
    plant_large(3);
    release_some(300);
    drop_shared(300);
    collect();
    /* A stale pointer may hold the last one of each. */
    ck_assert_uint_ge(ebb_leaks_count() - before, 201);
    ck_assert_uint_le(ebb_leaks_count() - before, 203);
    ck_assert_uint_ge(ebb_type_planted.leaked, 199);
    ck_assert_uint_eq(ebb_type_planted_shared.leaked, 0);
    ck_assert_int_eq(ebb_leaks_tell(), 2);
    int told = 0;
    for (int round = 0; round < 3; round++) { /* one call site, so told once */
        plant_owned(50);
        collect();
        told += ebb_leaks_tell();
    }
    ck_assert_int_eq(told, 1);
    log_read(log, sizeof log);
    ck_assert_msg(strstr(log, "planted (") && strstr(log, "from plant_owned (test_mem.c:"),
                  "log: %s", log);
    ck_assert_msg(strstr(log, "planted_large (") && strstr(log, "from plant_large"), "log: %s",
                  log);
    ck_assert_msg(strstr(log, "release_some") == NULL, "log: %s", log);
}
END_TEST

START_TEST(the_census_counts_what_lives) {
    add_types();
    collect();
    uint64_t held = ebb_type_planted.allocated - ebb_type_planted.gone;
    struct planted *kept[100];
    for (int i = 0; i < 100; i++)
        kept[i] = ebb_new(planted);
    collect();
    ck_assert_uint_eq(ebb_type_planted.allocated - ebb_type_planted.gone, held + 100);
    size_t size = 0;
    ck_assert_ptr_eq(ebb_type_of(kept[7], &size), &ebb_type_planted);
    ck_assert_uint_eq(size, sizeof(struct planted));
    for (int i = 0; i < 100; i++) {
        ebb_done(kept[i]);
        kept[i] = NULL;
    }
    collect();
    ck_assert_uint_le(ebb_type_planted.allocated - ebb_type_planted.gone, held + 1);
}
END_TEST

static void *volatile library_held;

static void see_foreign(const struct ebb_site *site, void *context) {
    if (site->type == &ebb_type_planted_foreign)
        *(const struct ebb_site **)context = site;
}

START_TEST(a_librarys_object_is_a_root_and_is_reported_until_freed) {
    add_types();
    struct planted **library = ebb_foreign_realloc(&ebb_type_planted_foreign, NULL, 64);
    library[0] = ebb_new(planted);
    uint64_t leaked = ebb_type_planted.leaked;
    library_held =
        (void *)~(uintptr_t)library; /* hidden: only the library's memory itself is known */
    library = NULL;
    collect();
    ck_assert_uint_eq(ebb_type_planted.leaked, leaked);
    const struct ebb_site *site = NULL;
    ck_assert_uint_ge(ebb_foreign_each(see_foreign, &site), 1);
    ck_assert_ptr_nonnull(site);
    char where[512];
    ebb_site_describe(site, 2, where, sizeof where);
    ck_assert_msg(strstr(where, "a_librarys_object_is_a_root") != NULL, "%s", where);
    library = (void *)~(uintptr_t)library_held;
    ebb_done(library[0]);
    library = ebb_foreign_realloc(&ebb_type_planted_foreign, library, 4096);
    ebb_foreign_free(library);
    site = NULL;
    ebb_foreign_each(see_foreign, &site);
    ck_assert_ptr_null(site);
}
END_TEST

static void done_twice(void) {
    struct planted *object = ebb_new(planted);
    ebb_done(object);
    ebb_done(object);
}

static void done_foreign(void) {
    int local = 0;
    ebb_done(&local);
}

START_TEST(misuse_stops_a_debug_build_and_is_survived_in_deploy) {
    add_types();
    void (*const misuses[])(void) = {done_twice, done_foreign};
    for (size_t i = 0; i < 2; i++) {
        int status = harness_status_of(misuses[i]);
        if (EBB_DEBUG)
            ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %x", status);
        else
            ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 7, "status %x", status);
    }
}
END_TEST

START_TEST(a_size_that_cannot_be_had_is_null_not_a_crash) {
    ck_assert_ptr_null(ebb_try_bytes(SIZE_MAX / 2));
    ck_assert_ptr_null(ebb_try_bytes((size_t)1 << 46));
    ck_assert_ptr_nonnull(ebb_try_bytes(1 << 20));
}
END_TEST

static void run_thread(void *arg) {
    int *bad = arg;
    struct planted *list = NULL;
    *ebb_thread_slot() = ebb_new_sized(&ebb_type_planted_shared, 128);
    memset(*ebb_thread_slot(), 0x5A, 128);
    for (int i = 0; i < 20000; i++) {
        struct planted *object = ebb_new(planted);
        snprintf(object->room, sizeof object->room, "%d", i);
        object->next = list;
        list = object;
    }
    for (int i = 19999; i >= 0; i--) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        *bad += strcmp(text, list->room) != 0;
        struct planted *next = list->next;
        ebb_done(list);
        list = next;
    }
    const char *slot = *ebb_thread_slot();
    for (int i = 0; i < 128; i++)
        *bad += slot[i] != 0x5A;
}

START_TEST(threads_keep_what_they_hold_while_others_collect) {
    add_types();
    struct ebb_thread *thread[3];
    int bad[3] = {0};
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(ebb_thread_start(&thread[i], "holder", run_thread, &bad[i]), EBB_OK);
    for (int i = 0; i < 20; i++)
        ebb_collect(EBB_CAUSE_demand);
    for (int i = 0; i < 3; i++) {
        ebb_thread_join(thread[i]);
        ck_assert_int_eq(bad[i], 0);
    }
}
END_TEST

static void *run_foreign_thread(void *arg) {
    ebb_thread_register();
    *(bool *)arg = ebb_thread_slot() == NULL;
    ebb_thread_unregister();
    return NULL;
}

START_TEST(a_librarys_thread_does_not_get_the_main_threads_slot) {
    pthread_t thread;
    bool has_none = false;
    ck_assert_ptr_nonnull(ebb_thread_slot());
    ck_assert_int_eq(pthread_create(&thread, NULL, run_foreign_thread, &has_none), 0);
    pthread_join(thread, NULL);
    ck_assert(has_none);
}
END_TEST

#define WAYS 6 /* so many forks in the road to a call site: 64 of them */

static __attribute__((noinline)) void leak_by(unsigned way, int depth);

static __attribute__((noinline)) void turn_left(unsigned way, int depth) {
    leak_by(way, depth);
    ebb_keep(&way);
}

static __attribute__((noinline)) void turn_right(unsigned way, int depth) {
    leak_by(way, depth);
    ebb_keep(&depth);
}

static void leak_by(unsigned way, int depth) {
    if (depth == WAYS)
        plant_owned(50);
    else if (way >> depth & 1)
        turn_left(way, depth + 1);
    else
        turn_right(way, depth + 1);
    ebb_keep(&way);
}

static void run_leaker(void *arg) {
    for (unsigned way = 0; way < 1U << WAYS; way++) {
        leak_by(way, 0);
        ebb_collect(EBB_CAUSE_demand);
    }
    atomic_store((_Atomic bool *)arg, true);
}

static void count_site(const struct ebb_site *site, void *context) {
    (void)site;
    ++*(int *)context;
}

START_TEST(each_site_is_told_though_its_leaks_are_found_while_others_are_told) {
    add_types();
    static _Atomic bool ended;
    struct ebb_thread *thread;
    collect();
    ebb_leaks_tell();
    int before = 0, after = 0, told = 0, devnull = open("/dev/null", O_WRONLY | O_CLOEXEC);
    ebb_log_fd_set(devnull);
    ebb_leaks_each(count_site, &before);
    ck_assert_int_eq(ebb_thread_start(&thread, "leaker", run_leaker, (void *)&ended), EBB_OK);
    while (!atomic_load(&ended))
        told += ebb_leaks_tell();
    ebb_thread_join(thread);
    collect();
    told += ebb_leaks_tell();
    ebb_log_fd_set(2);
    close(devnull);
    ebb_leaks_each(count_site, &after);
    ck_assert_int_ge(after - before, 8);
    ck_assert_int_eq(told, after - before);
}
END_TEST

static void release_some_there(void *arg) {
    release_some(1);
    ebb_keep(arg);
}

static void see_frames(const struct ebb_site *site, void *context) {
    for (int i = 0; i < EBB_SITE_FRAMES; i++)
        *(int *)context += site->frame[i] >> 48 != 0;
}

START_TEST(a_threads_call_sites_hold_addresses_and_no_rubbish) {
    add_types();
    struct ebb_thread *thread;
    int rubbish = 0;
    ck_assert_int_eq(ebb_thread_start(&thread, "releaser", release_some_there, NULL), EBB_OK);
    ebb_thread_join(thread);
    ebb_sites_each(see_frames, &rubbish);
    ck_assert_int_eq(rubbish, 0);
}
END_TEST

HARNESS_MAIN_COLLECTED("mem", a_forgotten_owned_object_is_counted_and_named_once,
                       the_census_counts_what_lives,
                       a_librarys_object_is_a_root_and_is_reported_until_freed,
                       misuse_stops_a_debug_build_and_is_survived_in_deploy,
                       a_size_that_cannot_be_had_is_null_not_a_crash,
                       threads_keep_what_they_hold_while_others_collect,
                       a_librarys_thread_does_not_get_the_main_threads_slot,
                       a_threads_call_sites_hold_addresses_and_no_rubbish,
                       each_site_is_told_though_its_leaks_are_found_while_others_are_told)
