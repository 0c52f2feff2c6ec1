/* sink: the log's end, while nobody reads and somebody sets the clock. */
#include "harness.h"

#include <ebb/clock.h>
#include <ebb/log.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { DAY_SECONDS = 86400 };
static time_t ahead; /* of the wall clock that this program sees */

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = (int)syscall(SYS_clock_gettime, clock, now);
    if (clock == CLOCK_REALTIME)
        now->tv_sec += ahead;
    return failed;
}

static void fill(int fd) {
    static const char bytes[4096];
    fcntl(fd, F_SETFL, O_NONBLOCK);
    while (write(fd, bytes, sizeof bytes) > 0)
        continue;
    ck_assert_int_eq(errno, EAGAIN);
    fcntl(fd, F_SETFL, 0);
}

/* A wait that follows the wall clock would be over at once, or in a day. In a process of its own,
 * since its writer stands still for good. */
static int end_with_the_clock_set(time_t set_to) {
    int ends[2];
    if (pipe(ends) != 0)
        return 2;
    fill(ends[1]);
    ebb_log_fd_set(ends[1]);
    ebb_log_start();
    ebb_log_error("test", "a line that nobody reads");
    uint64_t before = ebb_clock_ns();
    ahead = set_to;
    ebb_log_stop();
    return ebb_clock_ns() - before >= EBB_NS_PER_SECOND ? 0 : 1; /* it was patient */
}

START_TEST(the_end_does_not_wait_for_a_reader_whatever_the_clock_is_set_to) {
    static const time_t set_to[] = {-DAY_SECONDS, DAY_SECONDS};
    for (int i = 0; i < 2; i++) {
        int status;
        fflush(NULL);
        pid_t child = fork();
        if (child == 0)
            _exit(end_with_the_clock_set(set_to[i]));
        waitpid(child, &status, 0);
        ck_assert_int_eq(status, 0);
    }
}
END_TEST

int main(void) {
    const TTest *const tests[] = {the_end_does_not_wait_for_a_reader_whatever_the_clock_is_set_to};
    return harness_run("sink", tests, 1);
}
