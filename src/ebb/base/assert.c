/* assert -- the last words of a program that found itself wrong.
 *
 * The heap may be what is broken, so nothing is allocated: the sentence is put together in static
 * memory and leaves in one write. Only the first thread that panics speaks; others wait for the end
 * that it brings. */
#include <ebb/assert.h>

#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define PANIC_TEXT_MAX 4096

static char panic_text[PANIC_TEXT_MAX];
static atomic_flag panic_running = ATOMIC_FLAG_INIT;

/* How much of the text is used after a piece that snprintf measured as length. */
static size_t used_after(size_t used, int length) {
    if (length < 0)
        return used;
    size_t room = PANIC_TEXT_MAX - 1 - used;
    return used + ((size_t)length < room ? (size_t)length : room);
}

void ebb_panic(const char *file, int line, const char *function, const char *expression,
               const char *format, ...) {
    if (atomic_flag_test_and_set(&panic_running))
        for (;;)
            pause();
    size_t used =
        used_after(0, snprintf(panic_text, PANIC_TEXT_MAX, "ebb: panic: %s:%d: %s: %s: ", file,
                               line, function, expression));
    va_list arguments;
    va_start(arguments, format);
    used = used_after(used, vsnprintf(panic_text + used, PANIC_TEXT_MAX - used, format, arguments));
    va_end(arguments);
    panic_text[used] = '\n';
    ssize_t ignored = write(STDERR_FILENO, panic_text, used + 1);
    (void)ignored;
    abort();
}
