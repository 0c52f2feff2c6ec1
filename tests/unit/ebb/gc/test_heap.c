/* The census and its sums, the profile, the growth report, use after a release, suppressions,
 * reports. */
#include "harness.h"
#include <ebb/heap.h>
#include <ebb/leak.h>
#include <ebb/log.h>
#include <ebb/mem.h>
#include <ebb/metric.h>
#include <ebb/scope.h>
#include "telemetry/metrics.h"
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { NODES = 200000, BLOCKS = 160, BLOCK_BYTES = 1 << 20, TEXT_BYTES = 1 << 20 };

struct node {
    struct node *next;
    char room[40];
};

EBB_TYPE_DEFINE(node, EBB_POINTERS, EBB_OWNED, "a link of a list")
EBB_TYPE_DEFINE(holder, EBB_POINTERS, EBB_SHARED, "what holds a list")
EBB_TYPE_DEFINE(block, EBB_BYTES, EBB_SHARED, "a large block")
EBB_TYPE_DEFINE(excused, EBB_POINTERS, EBB_OWNED, "a leak that somebody decided to live with")

static void add_types(void) {
    static struct ebb_type *const types[] = {&ebb_type_node, &ebb_type_holder, &ebb_type_block,
                                             &ebb_type_excused};
    ebb_types_add(types, 4);
}

static __attribute__((noinline)) void clear_stack(void) {
    volatile char old[16384];
    memset((char *)old, 0, sizeof old);
    ebb_keep(old);
}

static struct node **list_of_nodes; /* a static variable that holds them */
static void *volatile blocks[BLOCKS];

static __attribute__((noinline)) void grow_list(int count) {
    if (list_of_nodes == NULL)
        list_of_nodes = ebb_new_sized(&ebb_type_holder, 2 * sizeof *list_of_nodes);
    for (int i = 0; i < count; i++) {
        struct node *node = ebb_new(node);
        node->next = list_of_nodes[1];
        list_of_nodes[1] = node;
    }
}

static __attribute__((noinline)) void drop_list(void) {
    for (struct node *node = list_of_nodes[1], *next; node; node = next) {
        next = node->next;
        node->next = NULL; /* a stale pointer shall hold one of them, not the rest of the list */
        ebb_done(node);
    }
    list_of_nodes = NULL;
}

static uint64_t resident(void) {
    unsigned long pages = 0, all;
    FILE *file = fopen("/proc/self/statm", "r");
    ck_assert_int_eq(fscanf(file, "%lu %lu", &all, &pages), 2);
    fclose(file);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}

static struct ebb_census_row row_of(const struct ebb_census *census, const struct ebb_type *type) {
    for (size_t i = 0; i < census->rows; i++)
        if (census->row[i].type == type)
            return census->row[i];
    ck_abort_msg("no row of %s", type->name);
    return census->row[0];
}

static void ck_within_2_percent(uint64_t a, uint64_t b, const char *what) {
    uint64_t more = a > b ? a - b : b - a;
    ck_assert_msg(more * 50 <= b, "%s: %lu and %lu", what, (unsigned long)a, (unsigned long)b);
}

START_TEST(the_census_agrees_with_the_collector_and_with_the_system) {
    static struct ebb_census before, after;
    add_types();
    ebb_collect_fully(EBB_CAUSE_demand);
    ebb_census_take(&before);
    grow_list(NODES);
    for (int i = 0; i < BLOCKS; i++) {
        blocks[i] = ebb_new_sized(&ebb_type_block, BLOCK_BYTES - 64);
        memset((void *)blocks[i], 1, BLOCK_BYTES - 64);
    }
    ebb_collect_fully(EBB_CAUSE_demand);
    ebb_census_take(&after);
    uint64_t rss = resident();
    ck_assert_uint_eq(row_of(&after, &ebb_type_node).objects, NODES);
    ck_assert_uint_eq(row_of(&after, &ebb_type_node).bytes, NODES * sizeof(struct node));
    ck_assert_uint_eq(row_of(&after, &ebb_type_block).objects, BLOCKS);
    uint64_t cells = after.other_cells;
    for (size_t i = 0; i < after.rows; i++)
        cells += after.row[i].cells;
    /* with the collector's own figures */
    ck_within_2_percent(cells, after.now.heap - after.now.free, "cells and heap in use");
    ck_assert_uint_eq(after.now.heap - after.now.free, cells + after.slack);
    /* with the system's: all of it, by kind, and what was added */
    ck_within_2_percent(after.rss, rss, "smaps and statm");
    ck_assert_uint_eq(after.rss, after.rss_heap + after.rss_program + after.rss_libc +
                                     after.rss_stack + after.rss_other);
    uint64_t added = row_of(&after, &ebb_type_node).cells + row_of(&after, &ebb_type_block).cells;
    ck_within_2_percent(after.rss_heap - before.rss_heap, after.now.heap - before.now.heap,
                        "resident growth, and that of the heap");
    ck_assert_uint_ge(after.rss_heap - before.rss_heap, added - added / 50);
}
END_TEST

START_TEST(the_profile_has_a_line_for_the_site_with_its_sums) {
    static char text[TEXT_BYTES];
    struct ebb_array_writer writer;
    ebb_array_writer_init(&writer, text, sizeof text);
    ebb_heap_profile_write(&writer.writer);
    ck_assert(!writer.cut);
    ck_assert_int_eq(strncmp(text, "heap profile: ", 14), 0);
    char wanted[64];
    snprintf(wanted, sizeof wanted, "%6d: %8zu [%6d: ", NODES, NODES * sizeof(struct node), NODES);
    ck_assert_msg(strstr(text, wanted) != NULL, "no line \"%s\" in %.3000s", wanted, text);
    ck_assert_ptr_nonnull(strstr(text, "\nMAPPED_LIBRARIES:\n"));
}
END_TEST

/* What a forked copy writes, as the contract asks for. */
static void growth_of_copy(char *text, size_t size, bool json) {
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    fflush(NULL);
    pid_t copy = fork();
    if (copy == 0) {
        struct ebb_fd_writer out;
        ebb_fd_writer_init(&out, ends[1]);
        _exit(ebb_growth_write(&out.writer, json));
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t got;
    while ((got = read(ends[0], text + used, size - 1 - used)) > 0)
        used += (size_t)got;
    text[used] = '\0';
    close(ends[0]);
    int status;
    waitpid(copy, &status, 0);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

START_TEST(what_grew_is_named_with_the_path_that_holds_it) {
    static char text[8192];
    drop_list();
    clear_stack();
    grow_list(100);
    ebb_growth_begin();
    growth_of_copy(text, sizeof text, false);
    ck_assert_str_eq(text, "no type grew\n");
    grow_list(50);
    growth_of_copy(text, sizeof text, false);
    ck_assert_msg(strstr(text, "-> 150 objects") && strstr(text, "static variable list_of_nodes") &&
                      strstr(text, "-> holder[+8] -> node"),
                  "%s", text);
    growth_of_copy(text, sizeof text, true);
    ck_assert_msg(strstr(text, "{\"type\":\"node\",\"before\":10") &&
                      strstr(text, ",\"after\":150,\"held_by\":\"static variable list_of_nodes"),
                  "%s", text);
}
END_TEST

static void use_after_done(void) {
    struct node *node = ebb_new(node);
    ebb_done(node);
    if (ebb_assert_live(node) || ebb_metric_value(&ebb_metric_misuse_use_after_done) != 1)
        _exit(1);
}

START_TEST(using_what_was_released_stops_a_debug_build_and_is_counted_in_deploy) {
    struct node *alive = ebb_new(node);
    ck_assert(ebb_assert_live(alive));
    ebb_done(alive);
    int status = harness_status_of(use_after_done);
    if (EBB_DEBUG)
        ck_assert_msg(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT, "status %x", status);
    else
        ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 7, "status %x", status);
}
END_TEST

static __attribute__((noinline)) void write_late(int count) {
    for (int i = 0; i < count; i++) {
        struct node *node = ebb_new(node);
        ebb_done(node);
        node->room[7] = 1;
        ebb_keep(node);
    }
}

START_TEST(writing_after_the_release_is_found_in_debug_builds) {
    uint64_t before = ebb_used_after_done_count();
    write_late(50);
    clear_stack();
    ebb_collect_fully(EBB_CAUSE_demand);
    uint64_t found = ebb_used_after_done_count() - before;
    ck_assert_uint_le(found, 50);
    ck_assert_uint_ge(found, EBB_DEBUG ? 40 : 0); /* stale pointers may hold a few */
    ck_assert(EBB_DEBUG || found == 0);
}
END_TEST

static __attribute__((noinline)) void leak_excused(int count) {
    for (int i = 0; i < count; i++)
        ebb_keep(ebb_new_sized(&ebb_type_excused, 32));
}

static enum ebb_err read_suppressions(const char *text) {
    char path[] = "supp-XXXXXX";
    int fd = mkstemp(path);
    ck_assert_int_eq(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
    enum ebb_err error = ebb_leak_suppressions_read(path);
    unlink(path);
    return error;
}

START_TEST(a_suppressed_leak_is_listed_but_excused) {
    static char text[TEXT_BYTES];
    struct ebb_array_writer writer;
    ck_assert_int_eq(read_suppressions("# none\n\nnode\n"), EBB_ERR_USAGE);
    ck_assert_msg(strstr(ebb_err_text(), ":3: not a line") != NULL, "%s", ebb_err_text());
    ck_assert_int_eq(read_suppressions("exc* leak_exc?sed # it is a test\n"), EBB_OK);
    uint64_t inexcusable = ebb_leaks_inexcusable(), all = ebb_leaks_count();
    leak_excused(40);
    clear_stack();
    ebb_collect_fully(EBB_CAUSE_demand);
    ck_assert_uint_ge(ebb_leaks_count(), all + 38);
    ck_assert_uint_eq(ebb_leaks_inexcusable(), inexcusable);
    ebb_array_writer_init(&writer, text, sizeof text);
    ebb_leaks_write_text(&writer.writer);
    ck_assert_msg(strstr(text, "(suppressed) leak_excused (test_heap.c:") != NULL, "%s", text);
    ebb_array_writer_init(&writer, text, sizeof text);
    ebb_leaks_write_json(&writer.writer);
    ck_assert_msg(strstr(text, "\"suppressed\":true,\"stack\":[\"leak_excused (test_heap.c:"), "%s",
                  text);
    ebb_array_writer_init(&writer, text, sizeof text);
    ebb_metrics_write_prometheus(&writer.writer);
    ck_assert_msg(
        strstr(text, "ebb_leaked_site_objects_total{type=\"excused\",site=\"leak_excused ("), "%s",
        text);
}
END_TEST

START_TEST(a_suppression_may_have_a_long_name_and_a_long_reason) {
    char text[2048];
    snprintf(text, sizeof text, "node _ZN%0200d # %01000d and why\n", 1, 2);
    ck_assert_msg(read_suppressions(text) == EBB_OK, "%s", ebb_err_text());
}
END_TEST

static __attribute__((noinline)) void lose_scopes(int count) {
    for (int i = 0; i < count; i++)
        ebb_keep(ebb_scope_new("lost"));
}

static __attribute__((noinline)) void lose_on_one_way(void) {
    lose_scopes(20);
    ebb_keep(NULL);
}

static __attribute__((noinline)) void lose_on_another(void) {
    lose_scopes(20);
    ebb_keep(NULL);
}

START_TEST(ways_to_one_place_are_one_series_which_names_the_librarys_caller) {
    static const char begin[] = "ebb_leaked_site_objects_total{type=\"scope\",site=\"lose_scopes (";
    static char text[TEXT_BYTES];
    struct ebb_array_writer writer;
    lose_on_one_way();
    lose_on_another();
    clear_stack();
    ebb_collect_fully(EBB_CAUSE_demand);
    ebb_array_writer_init(&writer, text, sizeof text);
    ebb_metrics_write_prometheus(&writer.writer);
    const char *row = strstr(text, begin);
    ck_assert_ptr_nonnull(row);
    ck_assert_ptr_null(strstr(row + 1, begin));
    ck_assert_uint_ge(strtoul(strchr(row, '}') + 1, NULL, 10), 38);
}
END_TEST

HARNESS_MAIN_COLLECTED("heap", the_census_agrees_with_the_collector_and_with_the_system,
                       the_profile_has_a_line_for_the_site_with_its_sums,
                       what_grew_is_named_with_the_path_that_holds_it,
                       using_what_was_released_stops_a_debug_build_and_is_counted_in_deploy,
                       writing_after_the_release_is_found_in_debug_builds,
                       a_suppressed_leak_is_listed_but_excused,
                       a_suppression_may_have_a_long_name_and_a_long_reason,
                       ways_to_one_place_are_one_series_which_names_the_librarys_caller)
