/* unmap: the system that takes no pages back ends nothing. Each test in a process of its own, since
 * unmapping is off for good then. By system calls: a sanitizer's mlock does nothing. */
#include "harness.h"

#include <ebb/collector.h>
#include <ebb/log.h>
#include <ebb/mem.h>
#include <ebb/metric.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "telemetry/metrics.h"

enum {
    SKIPPED = 77,
    LARGE_BYTES = 1 << 20,
    LOCKED_BYTES = 16 << 10, /* as much as anybody may lock */
    PAGE = 4096,
    ROUNDS = 4,
};

static char told[4096];

/* What run says as exit status; what it logged stands in told. Locks are not inherited. */
static int status_of(int (*run)(void), bool locks) {
    int ends[2], status;
    ck_assert_int_eq(pipe(ends), 0);
    fflush(NULL);
    pid_t child = fork();
    if (child == 0) {
        dup2(ends[1], STDERR_FILENO);
        if (locks && syscall(SYS_mlockall, MCL_FUTURE | MCL_ONFAULT) != 0)
            _exit(SKIPPED); /* not everybody may */
        harness_collector();
        _exit(run());
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t got;
    while ((got = read(ends[0], told + used, sizeof told - 1 - used)) > 0)
        used += (size_t)got;
    told[used] = '\0';
    close(ends[0]);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status), "ended by signal %d: %s", WTERMSIG(status), told);
    return WEXITSTATUS(status);
}

static bool told_once(void) {
    const char *line = strstr(told, "the system takes no memory back");
    return line && strstr(line + 1, "the system takes no memory back") == NULL;
}

static __attribute__((noinline)) int lock_and_lose(void) {
    char *large = ebb_bytes(LARGE_BYTES);
    char *page = large + PAGE - (uintptr_t)large % PAGE + LARGE_BYTES / 2;
    return syscall(SYS_mlock, page, (size_t)LOCKED_BYTES) == 0 ? 0 : SKIPPED;
}

static int locked_pages_of_the_heap(void) {
    uint64_t before = ebb_metric_value(&ebb_metric_unmapping_off);
    if (lock_and_lose() != 0)
        return SKIPPED;
    for (int i = 0; i < ROUNDS; i++) {
        ebb_stack_clear();
        ebb_collect_fully(EBB_CAUSE_demand);
    }
    ebb_collector_tell();
    ebb_collector_tell();
    struct ebb_heap_record now;
    ebb_heap_now(&now);
    char *again = ebb_bytes(2 * LARGE_BYTES);
    for (size_t i = 0; i < 2 * LARGE_BYTES; i++)
        if (again[i] != 0)
            return 1;
    return before == 0 && ebb_metric_value(&ebb_metric_unmapping_off) == 1 &&
                   now.heap >= LARGE_BYTES
               ? 0
               : 2;
}

START_TEST(a_heap_that_the_system_does_not_take_back_is_told_once_and_stays) {
    int status = status_of(locked_pages_of_the_heap, false);
    if (status == SKIPPED)
        return;
    ck_assert_msg(status == 0, "%d: %s", status, told);
    ck_assert_msg(told_once(), "%s", told);
}
END_TEST

static int start_locked(void) {
    ebb_collector_tell();
    for (int i = 0; i < ROUNDS; i++) {
        memset(ebb_bytes(LARGE_BYTES), 1, LARGE_BYTES);
        ebb_stack_clear();
        ebb_collect_fully(EBB_CAUSE_demand);
    }
    ebb_collector_tell();
    return ebb_metric_value(&ebb_metric_unmapping_off) == 1 ? 0 : 1;
}

START_TEST(a_program_that_locked_its_memory_is_told_at_the_start) {
    int status = status_of(start_locked, true);
    if (status == SKIPPED)
        return;
    ck_assert_msg(status == 0, "%d: %s", status, told);
    ck_assert_msg(told_once(), "%s", told);
}
END_TEST

START_TEST(others_hear_of_their_own_refusals) {
    char *pages =
        mmap(NULL, LOCKED_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert_ptr_ne(pages, MAP_FAILED);
    ck_assert_int_eq(madvise(pages + 1, PAGE, MADV_DONTNEED), -1);
    ck_assert_int_eq(errno, EINVAL);
    ck_assert_int_eq(madvise(pages, LOCKED_BYTES, MADV_DONTNEED), 0);
    munmap(pages, LOCKED_BYTES);
}
END_TEST

HARNESS_MAIN("unmap", a_heap_that_the_system_does_not_take_back_is_told_once_and_stays,
             a_program_that_locked_its_memory_is_told_at_the_start,
             others_hear_of_their_own_refusals)
