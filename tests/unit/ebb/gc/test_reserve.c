/* reserve: small objects while the system gives no more memory (RLIMIT_AS), and what fills the
 * heap while the reserve is not whole. */
#include "harness.h"

#include <ebb/scope.h>
#include <sys/resource.h>

#include "gc/types.h"
#include "telemetry/metrics.h"

#define LARGE       (128 << 10)
#define LARGE_MOST  4096
#define SMALL       700
#define SMALL_COUNT 100
#define SMALL_MOST  10000 /* more than the reserve holds */

static void *large[LARGE_MOST];
static void *small[SMALL_MOST];

static struct rlimit limit_to_what_is_mapped(void) {
    struct rlimit before, low;
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    ck_assert_int_eq(fscanf(file, "%lu", &pages), 1);
    fclose(file);
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &before), 0);
    low = before;
    low.rlim_cur = pages * (rlim_t)sysconf(_SC_PAGESIZE);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &low), 0);
    return before;
}

static int fill_with_large(void) {
    int count = 0;
    while (count < LARGE_MOST && (large[count] = ebb_try_bytes(LARGE)) != NULL)
        count++;
    ck_assert_int_lt(count, LARGE_MOST);
    return count;
}

static int take_small(bool can_wait) {
    int count = 0;
    for (; count < SMALL_MOST; count++) {
        small[count] = can_wait ? ebb_try_sized(&ebbi_type_bytes, SMALL)
                                : ebb_new_sized(&ebbi_type_bytes, SMALL);
        if (small[count] == NULL || (!can_wait && count == SMALL_COUNT))
            break;
    }
    return count;
}

static void let_go(int count) {
    memset(large, 0, (size_t)count * sizeof large[0]);
    memset(small, 0, sizeof small);
    ebb_stack_clear();
    ebb_collect_fully(EBB_CAUSE_demand);
    (void)ebb_memory_short(); /* it tells of what was refused until now */
}

START_TEST(small_objects_are_had_when_large_ones_have_taken_all) {
    ck_assert(!ebb_memory_short());
    struct rlimit before = limit_to_what_is_mapped();
    int count = fill_with_large();
    int waited = take_small(true);
    ck_assert_int_gt(waited, SMALL_COUNT);
    ck_assert_int_lt(waited, SMALL_MOST); /* some is left for those that may not be refused */
    ck_assert_int_eq(take_small(false), SMALL_COUNT);
    ck_assert(ebb_memory_short());
    ck_assert_int_gt(ebb_metric_value(&ebb_metric_reserve_used), 0);
    struct ebb_scope *scope = ebb_scope_try("one more");
    ebb_scope_close(scope);
    let_go(count);
    ck_assert(!ebb_memory_short());
    ck_assert_int_eq(ebb_metric_value(&ebb_metric_reserve_used), 0);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
}
END_TEST

START_TEST(large_objects_wait_until_the_reserve_is_whole) {
    struct rlimit before = limit_to_what_is_mapped();
    int count = fill_with_large();
    take_small(true);
    large[0] = NULL; /* less than the reserve misses: it goes there */
    ebb_stack_clear();
    ebb_collect_fully(EBB_CAUSE_demand);
    ck_assert_ptr_null(ebb_try_bytes(LARGE));
    ck_assert(ebb_memory_short());
    let_go(count);
    ck_assert_ptr_nonnull(ebb_try_bytes(LARGE));
    ck_assert(!ebb_memory_short());
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &before), 0);
}
END_TEST

HARNESS_MAIN_COLLECTED("reserve", small_objects_are_had_when_large_ones_have_taken_all,
                       large_objects_wait_until_the_reserve_is_whole)
