/* assert -- our own bugs stop the program and say what they held. */
#ifndef EBB_ASSERT_H
#define EBB_ASSERT_H

#include <sys/cdefs.h>

__BEGIN_DECLS

/* Prints "ebb: panic: FILE:LINE: FUNCTION: EXPRESSION: MESSAGE" to descriptor 2 from static memory,
 * then aborts. When: any thread; allocates nothing. */
void ebb_panic(const char *file, int line, const char *function, const char *expression,
               const char *format, ...) __attribute__((noreturn, format(printf, 5, 6)));

/* Always on, in every build. The message prints the values that the reader will want. */
#define ebb_assert(condition, ...)                                                                 \
    ((condition) ? (void)0 : ebb_panic(__FILE__, __LINE__, __func__, #condition, __VA_ARGS__))

__END_DECLS

#endif
