/* library -- libevent, taken into the house: its memory is collected memory and its messages are
 * log lines.
 *
 * libevent keeps what we register (our watch, timer and listener objects) in memory of its own. The
 * collector does not look into libc's heap, so with libevent on malloc it would reclaim objects
 * that are about to be called. On the wrapper's FOREIGN memory, which is scanned and lives until
 * libevent frees it, they are held. */
#include "tell/events.h"
#include <ebb/loop.h>

#include <errno.h>
#include <event2/event.h>

#include <ebb/assert.h>
#include <ebb/mem.h>

#include "gc/types.h"

/* As malloc: errno says what is wrong. */
static void *library_realloc(void *object, size_t size) {
    void *fresh = ebb_foreign_realloc(&ebb_type_libevent, object, size);
    if (fresh == NULL)
        errno = ENOMEM;
    return fresh;
}

static void *library_malloc(size_t size) {
    return library_realloc(NULL, size);
}

/* errno stays: who called libevent asks for it afterwards. */
static void library_log(int severity, const char *text) {
    int error = errno;
    if (severity == EVENT_LOG_ERR)
        ebb_tell(libevent_error, text);
    else if (severity == EVENT_LOG_WARN)
        ebb_tell(libevent_warns, text);
    else
        ebb_tell(libevent_says, text);
    errno = error;
}

static void library_fatal(int error) {
    ebb_assert(false, "libevent gave up, error %d; its reason is in the log", error);
}

void ebb_loop_library_start(void) {
    event_set_mem_functions(library_malloc, library_realloc, ebb_foreign_free);
    event_set_log_callback(library_log);
    event_set_fatal_callback(library_fatal);
}

void ebb_loop_library_stop(void) {
    libevent_global_shutdown();
}
