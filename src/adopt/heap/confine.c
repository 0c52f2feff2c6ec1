/* confine -- a program that confines itself with seccomp forbids calls that a round makes, mostly
 * on pain of death. So rounds end just before it does.
 *
 * Filters that were there when the program started are none of ours to know: a service manager's
 * usually allow what a daemon does, and so what we do.
 *
 * 1. Both ways that libraries take lead here: prctl, and syscall. */
#include "heap.h"

#include <errno.h>
#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ARGUMENTS = 6, PRCTL_ARGUMENTS = 5, ERROR_MAX = 4095 };

static long call_kernel(long number, const long argument[ARGUMENTS]) {
    register long fourth __asm__("r10") = argument[3];
    register long fifth __asm__("r8") = argument[4];
    register long sixth __asm__("r9") = argument[5];
    long got;
    __asm__ volatile("syscall"
                     : "=a"(got)
                     : "a"(number), "D"(argument[0]), "S"(argument[1]), "d"(argument[2]),
                       "r"(fourth), "r"(fifth), "r"(sixth)
                     : "rcx", "r11", "memory");
    if (got >= 0 || got < -ERROR_MAX)
        return got;
    errno = (int)-got;
    return -1;
}

static bool confines(long number, const long argument[ARGUMENTS]) {
    if (number == SYS_seccomp)
        return argument[0] == SECCOMP_SET_MODE_STRICT || argument[0] == SECCOMP_SET_MODE_FILTER;
    return number == SYS_prctl && argument[0] == PR_SET_SECCOMP;
}

static long call(long number, const long argument[ARGUMENTS]) {
    if (__builtin_expect(confines(number, argument), 0))
        judge_no_more(ADOPT_CONFINED);
    return call_kernel(number, argument);
}

ADOPT_EXPORT long syscall(long number, ...) {
    va_list list;
    long argument[ARGUMENTS];
    va_start(list, number);
    for (int i = 0; i < ARGUMENTS; i++)
        argument[i] = va_arg(list, long);
    va_end(list);
    return call(number, argument);
}

ADOPT_EXPORT int prctl(int what, ...) {
    va_list list;
    long argument[ARGUMENTS] = {what};
    va_start(list, what);
    for (int i = 1; i < PRCTL_ARGUMENTS; i++)
        argument[i] = va_arg(list, long);
    va_end(list);
    return (int)call(SYS_prctl, argument);
}
