/* The collector: causes, records, the dropped-bytes trigger, finalizers, profiles. */
#include "harness.h"
#include <ebb/collector.h>
#include <ebb/err.h>
#include <ebb/mem.h>
#include <ebb/metric.h>
#include <ebb/writer.h>
#include "gc/finalizer.h"
#include "gc/types.h"
#include "telemetry/metrics.h"
#include <ebb/thread.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

START_TEST(a_collection_leaves_a_record_with_its_cause_and_pause) {
    struct ebb_heap_record record;
    uint64_t lost = 0;
    while (ebb_heap_record_take(&record, &lost))
        continue;
    uint64_t counted = ebb_metric_value(&ebb_metric_gc_pause);
    ebb_collect(EBB_CAUSE_pressure);
    ck_assert(ebb_heap_record_take(&record, &lost));
    ck_assert_int_eq(record.cause, EBB_CAUSE_pressure);
    ck_assert_uint_gt(record.pause_ns, 0);
    ck_assert_uint_ge(record.pause_ns, record.stop_ns + record.mark_ns);
    ck_assert_uint_gt(record.pause_cpu_ns, 0);
    ck_assert_uint_gt(record.heap, 0);
    ck_assert_uint_eq(record.heap, record.live + record.free);
    ck_assert_uint_gt(record.rss, 0);
    ck_assert(!ebb_heap_record_take(&record, &lost));
    ck_assert_uint_eq(lost, 0);
    ck_assert_uint_eq(ebb_metric_value(&ebb_metric_gc_pause), counted + 1);
}
END_TEST

START_TEST(more_records_than_the_ring_holds_are_counted_as_lost) {
    struct ebb_heap_record record;
    uint64_t lost = 0, taken = 0, last = 0;
    for (int i = 0; i < 1500; i++)
        ebb_collect(EBB_CAUSE_demand);
    while (ebb_heap_record_take(&record, &lost)) {
        taken++;
        ck_assert_uint_gt(record.number, last);
        last = record.number;
    }
    ck_assert_uint_ge(taken, 500);
    ck_assert_uint_eq(taken + lost, 1500);
}
END_TEST

START_TEST(dropped_bytes_start_a_collection_at_the_share_of_the_budget) {
    ebb_collect(EBB_CAUSE_demand);
    ebb_budget_set(1000 << 20);
    size_t share = (size_t)(1000 << 20) / 1000 * ebb_collector_profile()->collect_dropped_per_mille;
    ck_assert(!ebb_dropped(share / 2));
    ck_assert_uint_eq(ebb_dropped_now(), share / 2);
    ck_assert(ebb_dropped(share / 2 + 4096));
    ck_assert_uint_eq(ebb_dropped_now(), 0);
}
END_TEST

START_TEST(what_nobody_says_is_dropped_is_collected_now_and_then) {
    uint64_t before = ebb_collections();
    size_t bytes = 0;
    for (; bytes < 64 << 20 && ebb_collections() < before + 10; bytes += 4000)
        ebb_bytes(4000);
    ck_assert_uint_eq(ebb_collections(), before + 10);
    ck_assert_uint_gt(bytes, 10 * (64 << 10)); /* not at every turn */
}
END_TEST

enum { GROWN = 64, GROWN_BYTES = (1 << 20) - 32, GROWN_LITTLE = 64 << 10 };

static __attribute__((noinline)) void grow(void **held, const struct ebb_heap_record *before) {
    struct ebb_heap_record now;
    for (int i = 0; i < GROWN; i++) {
        held[i] = ebb_bytes(GROWN_BYTES);
        ebb_heap_now(&now);
        /* Where a word looks like a pointer into it, fresh memory is left alone. */
        ck_assert_uint_le(now.free, before->free + 4 * GROWN_BYTES);
    }
    ck_assert_uint_gt(now.heap, (size_t)GROWN * GROWN_BYTES);
}

START_TEST(the_heap_grows_by_what_is_asked_for_and_holds_none_of_it) {
    static void *held[GROWN];
    struct ebb_heap_record before;
    ebb_collect_fully(EBB_CAUSE_demand);
    ebb_heap_now(&before);
    uint64_t bytes = ebb_type_bytes_held(&ebbi_type_bytes);
    grow(held, &before);
    memset(held, 0, sizeof held);
    ebb_stack_clear();
    ebb_collect_fully(EBB_CAUSE_demand);
#if defined(__SANITIZE_ADDRESS__) /* a word in one of its large frames goes; a variable stays */
    for (int i = 0; i < 5 && ebb_type_bytes_held(&ebbi_type_bytes) > bytes + GROWN_LITTLE; i++) {
        ebb_stack_clear();
        ebb_collect_fully(EBB_CAUSE_demand);
    }
#endif
    ck_assert_uint_le(ebb_type_bytes_held(&ebbi_type_bytes), bytes + GROWN_LITTLE);
}
END_TEST

static uint64_t told;
static bool has_room;

static bool make_room(uint64_t bytes) {
    told = bytes;
    return has_room;
}

START_TEST(taken_bytes_are_told_in_steps_and_each_time_while_there_is_no_room) {
    ck_assert(ebb_charge(1 << 20)); /* nobody keeps a bound */
    ebb_charge_room(make_room, 1000);
    has_room = true;
    ck_assert(ebb_charge(999) && told == 0);
    ck_assert(ebb_charge(1) && told == 1000);
    told = 0;
    ck_assert(ebb_charge(999) && told == 0);
    has_room = false;
    ck_assert(!ebb_charge(1));
    told = 0;
    ck_assert(!ebb_charge(1) && told > 0); /* however little */
    has_room = true;
    ck_assert(ebb_charge(1));
    told = 0;
    ck_assert(ebb_charge(999) && told == 0);
    ck_assert(ebb_reserve(5000) && told == 5000);
    ck_assert(ebb_charge(1) && told == 6000); /* what is reserved counts until it is given back */
    has_room = false;
    ck_assert(!ebb_reserve(100));
    has_room = true;
    ebb_unreserve(5000);
    ck_assert(ebb_charge(1000) && told == 1000);
    ebb_charge_room(NULL, 0);
}
END_TEST

static int asked;

/* Somebody else takes before the first has an answer. */
static bool make_room_slowly(uint64_t bytes) {
    if (++asked == 1)
        ck_assert(!ebb_charge(1));
    return bytes == 0;
}

START_TEST(while_room_is_made_nobody_takes_without_asking) {
    ebb_charge_room(make_room_slowly, 1000);
    ck_assert(!ebb_charge(1000));
    ck_assert_int_eq(asked, 2);
    ebb_charge_room(NULL, 0);
}
END_TEST

static int finalized;

static void finalize(void *object) {
    ck_assert_int_eq(*(int *)object, 4711);
    finalized++;
}

static __attribute__((noinline)) void drop_finalizable(int n, bool clear) {
    for (int i = 0; i < n; i++) {
        int *object = ebb_bytes(sizeof *object);
        *object = 4711;
        ebbi_finalizer_set(object, finalize);
        if (clear)
            ebbi_finalizer_clear(object);
    }
}

START_TEST(a_finalizer_runs_once_when_asked_and_not_after_it_was_taken_back) {
    drop_finalizable(100, false);
    drop_finalizable(100, true);
    ck_assert_int_eq(finalized, 0);
    ebb_collect_fully(EBB_CAUSE_demand);
    ck_assert_int_ge(finalized, 99);
    ck_assert_int_le(finalized, 100);
}
END_TEST

static enum ebb_err read_profile(const char *text, struct ebb_profile *profile, char *path) {
    strcpy(path, "profile-XXXXXX");
    int fd = mkstemp(path);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    char name[64];
    snprintf(name, sizeof name, "./%s", path);
    enum ebb_err err = ebb_profile_read(profile, name);
    unlink(path);
    return err;
}

START_TEST(a_profile_says_file_and_line_of_what_it_cannot_take) {
    struct ebb_profile profile;
    char path[32], wanted[64];
    const struct {
        const char *text, *place, *says;
    } cases[] = {
        {"# fine\nmarkers = 2\nmarkrs = 3\n", ":3:", "unknown key \"markrs\""},
        {"markers = 65\n", ":1:", "from 0 to 64"},
        {"markers = -1\n", ":1:", "whole number"},
        {"markers = 1x\n", ":1:", "whole number"},
        {"\n\nleak_watch = maybe\n", ":3:", "yes or no"},
        {"[section]\nmarkers = 1\n", ":2:", "no sections"},
        {"markers = 1\nrubbish\n", ":2:", "key = value"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(read_profile(cases[i].text, &profile, path), EBB_ERR_USAGE);
        snprintf(wanted, sizeof wanted, "%s%s", path, cases[i].place);
        ck_assert_msg(strstr(ebb_err_text(), wanted) && strstr(ebb_err_text(), cases[i].says),
                      "case %zu: %s", i, ebb_err_text());
    }
    ck_assert_int_eq(read_profile("markers = 3 ; three\nleak_watch = no\n", &profile, path),
                     EBB_OK);
    ck_assert_uint_eq(profile.markers, 3);
    ck_assert(!profile.leak_watch);
    ck_assert_uint_eq(profile.unmap_threshold, 6);
    ck_assert_int_eq(ebb_profile_read(&profile, "no-such-profile"), EBB_ERR_USAGE);
    ck_assert_ptr_nonnull(strstr(ebb_err_text(), "no-such-profile"));
}
END_TEST

START_TEST(every_shipped_profile_is_read) {
    struct ebb_profile profile;
    const char *names[] = {"deploy", "leak-detect", "heap-bench"};
    for (int i = 0; i < 3; i++)
        ck_assert_msg(ebb_profile_read(&profile, names[i]) == EBB_OK, "%s: %s", names[i],
                      ebb_err_text());
}
END_TEST

START_TEST(a_profile_is_compiled_in_and_a_folder_that_is_named_goes_first) {
    struct ebb_profile profile;
    char folder[] = "/tmp/ebb-profile-XXXXXX", path[64];
    ck_assert_int_eq(ebb_profile_read(&profile, "leak-detect"), EBB_OK);
    ck_assert_str_eq(profile.path, "");
    ck_assert(profile.full_stacks);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/leak-detect.conf", folder);
    FILE *file = fopen(path, "w");
    fputs("full_stacks = no\n", file);
    fclose(file);
    setenv("EBB_GC_CONFIG", folder, 1);
    ck_assert_int_eq(ebb_profile_read(&profile, "leak-detect"), EBB_OK);
    ck_assert_str_eq(profile.path, path);
    ck_assert(!profile.full_stacks);
    ck_assert_int_eq(ebb_profile_read(&profile, "deploy"), EBB_OK);
    ck_assert_str_eq(profile.path, "");
    unsetenv("EBB_GC_CONFIG");
    unlink(path);
    rmdir(folder);
}
END_TEST

START_TEST(a_heap_trace_row_has_as_many_columns_as_its_header) {
    char text[1024];
    struct ebb_array_writer writer;
    struct ebb_heap_record record;
    ebb_heap_now(&record);
    ebb_array_writer_init(&writer, text, sizeof text);
    ebb_heap_record_write_header(&writer.writer);
    ebb_heap_record_write(&writer.writer, &record);
    int commas[2] = {0}, line = 0;
    for (const char *c = text; *c; c++) {
        line += *c == '\n';
        if (line < 2)
            commas[line] += *c == ',';
    }
    ck_assert_int_eq(line, 2);
    ck_assert_int_eq(commas[0], commas[1]);
    ck_assert_ptr_nonnull(strstr(text, ",interval,"));
}
END_TEST

static int sleeper_pipe[2];
static _Atomic bool sleeper_sleeps;
static int sleeper_poll, sleeper_errno;
static unsigned char *sleeper_held;

static void sleeper_wait(void *arg) {
    struct pollfd ready = {.fd = sleeper_pipe[0], .events = POLLIN};
    (void)arg;
    sleeper_sleeps = true;
    sleeper_poll = poll(&ready, 1, -1);
    sleeper_errno = errno;
}

static void sleeper(void *arg) {
    (void)arg;
    unsigned char *held = ebb_bytes(100); /* this stack alone holds it */
    memset(held, 0x5A, 100);
    ebb_thread_sleep(sleeper_wait, NULL);
    bool whole = true;
    for (int i = 0; i < 100; i++)
        whole = whole && held[i] == 0x5A;
    sleeper_held = whole ? held : NULL;
}

START_TEST(a_sleeping_thread_is_not_disturbed_and_keeps_what_it_holds) {
    struct ebb_thread *thread;
    ck_assert_int_eq(pipe(sleeper_pipe), 0);
    ck_assert_int_eq(ebb_thread_start(&thread, "sleeper", sleeper, NULL), EBB_OK);
    while (!sleeper_sleeps)
        usleep(1000);
    for (int i = 0; i < 50; i++) {
        ebb_collect(EBB_CAUSE_demand);
        for (int j = 0; j < 100; j++)
            memset(ebb_bytes(100), 0xA5, 100);
        usleep(1000);
    }
    ck_assert_int_eq(write(sleeper_pipe[1], "x", 1), 1);
    ebb_thread_join(thread);
    ck_assert_msg(sleeper_poll == 1, "poll: %s", strerror(sleeper_errno));
    ck_assert_ptr_nonnull(sleeper_held);
    close(sleeper_pipe[0]);
    close(sleeper_pipe[1]);
}
END_TEST

HARNESS_MAIN_COLLECTED("collector", a_sleeping_thread_is_not_disturbed_and_keeps_what_it_holds,
                       a_collection_leaves_a_record_with_its_cause_and_pause,
                       more_records_than_the_ring_holds_are_counted_as_lost,
                       dropped_bytes_start_a_collection_at_the_share_of_the_budget,
                       what_nobody_says_is_dropped_is_collected_now_and_then,
                       the_heap_grows_by_what_is_asked_for_and_holds_none_of_it,
                       taken_bytes_are_told_in_steps_and_each_time_while_there_is_no_room,
                       while_room_is_made_nobody_takes_without_asking,
                       a_finalizer_runs_once_when_asked_and_not_after_it_was_taken_back,
                       a_profile_says_file_and_line_of_what_it_cannot_take,
                       every_shipped_profile_is_read,
                       a_profile_is_compiled_in_and_a_folder_that_is_named_goes_first,
                       a_heap_trace_row_has_as_many_columns_as_its_header)
