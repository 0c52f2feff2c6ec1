/* library -- libevent, taken into the house: its memory is collected memory and its messages are
 * log lines.
 *
 * libevent keeps what we register (our watch, timer and listener objects) in memory of its own. The
 * collector does not look into libc's heap, so with libevent on malloc it would reclaim objects
 * that are about to be called. On the wrapper's FOREIGN memory, which is scanned and lives until
 * libevent frees it, they are held.
 *
 * libevent 2.1 does not survive every refusal: bufferevent_setwatermark faults, and so do
 * evhttp_connection_base_bufferevent_new and evhttp_request_new where they free what is half made;
 * evhttp_send_reply sends what it found memory for. So some blocks are set aside for where a
 * connection or a request begins, and refusals are counted for who has to know whether an answer is
 * whole. */
#include "telemetry/events.h"
#include <ebb/loop.h>

#include <errno.h>
#include <event2/event.h>

#include <ebb/assert.h>
#include <ebb/mem.h>

#include "gc/types.h"
#include "loop_internal.h"

#define ASIDE       16 /* what a connection begins with, its first request included */
#define ASIDE_BYTES 1024

static _Thread_local struct {
    void *aside[ASIDE]; /* FOREIGN, so it lives without being seen here */
    bool refuses;
    uint64_t refused;
} memory;

uint64_t ebbi_library_refused(void) {
    return memory.refused;
}

void ebbi_library_refuse_next(void) {
    memory.refuses = true;
}

bool ebbi_library_set_aside(void) {
    for (int i = 0; i < ASIDE; i++)
        if (memory.aside[i] == NULL)
            memory.aside[i] = ebb_foreign_realloc(&ebbi_type_libevent, NULL, ASIDE_BYTES);
    for (int i = 0; i < ASIDE; i++)
        if (memory.aside[i] == NULL)
            return false;
    return true;
}

void ebbi_library_set_aside_end(void) {
    for (int i = 0; i < ASIDE; i++) {
        ebb_foreign_free(memory.aside[i]);
        memory.aside[i] = NULL;
    }
}

static void *take_aside(size_t size) {
    for (int i = 0; i < ASIDE && size <= ASIDE_BYTES; i++) {
        void *block = memory.aside[i];
        memory.aside[i] = NULL;
        if (block != NULL)
            return block;
    }
    return NULL;
}

/* As malloc: errno says what is wrong. */
static void *library_realloc(void *object, size_t size) {
    void *fresh = memory.refuses ? NULL : ebb_foreign_realloc(&ebbi_type_libevent, object, size);
    if (fresh == NULL && object == NULL && !memory.refuses)
        fresh = take_aside(size);
    memory.refuses = false;
    if (fresh == NULL) {
        memory.refused++;
        errno = ENOMEM;
    }
    return fresh;
}

static void *library_malloc(size_t size) {
    return library_realloc(NULL, size);
}

/* errno stays: who called libevent asks for it afterwards. */
static void library_log(int severity, const char *text) {
    int error = errno;
    if (severity == EVENT_LOG_ERR)
        ebb_log_event(libevent_error, text);
    else if (severity == EVENT_LOG_WARN)
        ebb_log_event(libevent_warns, text);
    else
        ebb_log_event(libevent_says, text);
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
