/* err -- the latest failure's sentence, one per thread.
 *
 * A sentence often quotes the one before it ("page: " and what the socket said), so the new one is
 * formatted aside and only then put in the old one's place. Thread-local memory is fine here: it
 * holds no pointers. */
#include <ebb/err.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define ERR_TEXT_MAX 512

static _Thread_local char err_text[ERR_TEXT_MAX];

enum ebb_err ebb_err_set(enum ebb_err code, const char *format, ...) {
    char text[ERR_TEXT_MAX] = "";
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (length < 0)
        text[0] = 0;
    memcpy(err_text, text, sizeof(text));
    return code;
}

const char *ebb_err_text(void) {
    return err_text;
}
