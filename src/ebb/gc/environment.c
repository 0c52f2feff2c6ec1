/* environment -- what the environment tells the collector's library, taken out of it.
 *
 * The library reads some thirty variables GC_*, most of them while it starts: they switch on modes
 * that we must not run in (incremental, find-leak), bound the heap, or write to files. A variable
 * that somebody exported for another program would reach us, and ours would reach the programs that
 * we start. The profile alone sets the collector.
 *
 * 1. From the collector's start on no variable GC_* is in the environment; ours, for what the
 * library has no function for, are there while it starts, and no longer.
 * 2. What was taken out is told once the log is there: the names are kept until then. */
#include "gc/object.h"
#include "telemetry/events.h"
#include <ebb/collector.h>
#include <ebb/writer.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { NAMES_TEXT = 256, NAME_MAX_TEXT = 64 };
static const char prefix[] = "GC_";

static char taken[NAMES_TEXT]; /* not told yet */

/* The name of the first variable of the library's that is left, or NULL. */
static const char *find(char name[NAME_MAX_TEXT]) {
    for (char **at = environ; at && *at; at++) {
        size_t length = strcspn(*at, "=");
        if (strncmp(*at, prefix, strlen(prefix)) != 0 || (*at)[length] != '=' ||
            length >= NAME_MAX_TEXT)
            continue; /* none that the library reads */
        memcpy(name, *at, length);
        name[length] = '\0';
        return name;
    }
    return NULL;
}

void ebbi_environment_take(void) {
    char name[NAME_MAX_TEXT];
    struct ebb_array_writer names;
    ebb_array_writer_init(&names, taken, sizeof taken);
    while (find(name)) {
        ebb_writef(&names.writer, "%s%s", names.used > 0 ? ", " : "", name);
        unsetenv(name);
    }
}

void ebbi_environment_set(const char *name, const char *value) {
    setenv(name, value, 1);
}

void ebbi_environment_clear(void) {
    char name[NAME_MAX_TEXT];
    while (find(name))
        unsetenv(name);
}

void ebbi_environment_tell(void) {
    if (taken[0] != '\0')
        ebb_log_event(environment_taken, taken);
    taken[0] = '\0';
}
