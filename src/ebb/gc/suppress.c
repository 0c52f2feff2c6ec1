/* suppress -- leaks that somebody looked at and decided to live with.
 *
 * A suppression names a type and a function that stands in the stack. Names are looked up once per
 * site; the answer stays with the site. Rules are read at start and never change. */
#include "base/open.h"
#include "gc/object.h"
#include <ebb/collector.h>
#include <errno.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>

enum { RULES_MAX = 64, TYPE_MAX = 96, FUNCTION_MAX = 512, LINE_MAX_BYTES = 2048, WHERE_MAX = 8192 };
enum { NOT_LOOKED, NOT_EXCUSED, EXCUSED };

static struct { char type[TYPE_MAX], function[FUNCTION_MAX]; } rules[RULES_MAX];
static int rules_count;

static enum ebb_err take_line(const char *path, int number, char *line) {
    char type[TYPE_MAX], function[FUNCTION_MAX], more[2];
    line[strcspn(line, "#\n")] = '\0';
    int words = sscanf(line, "%95s %511s %1s", type, function, more);
    if (words <= 0)
        return EBB_OK;
    if (words != 2)
        return ebb_err_set(EBB_ERR_USAGE, "%s:%d: not a line of the form TYPE FUNCTION # reason",
                           path, number);
    if (rules_count == RULES_MAX)
        return ebb_err_set(EBB_ERR_USAGE, "%s:%d: more than %d suppressions", path, number,
                           RULES_MAX);
    memcpy(rules[rules_count].type, type, TYPE_MAX);
    memcpy(rules[rules_count].function, function, FUNCTION_MAX);
    rules_count++;
    return EBB_OK;
}

enum ebb_err ebb_leak_suppressions_read(const char *path) {
    FILE *file = ebbi_open_stream(path);
    if (file == NULL)
        return ebb_err_set(EBB_ERR_USAGE, "suppressions %s: %s", path, strerror(errno));
    char line[LINE_MAX_BYTES];
    enum ebb_err error = EBB_OK;
    for (int number = 1; error == EBB_OK && fgets(line, sizeof line, file); number++) {
        bool whole = strchr(line, '\n') != NULL;
        error = take_line(path, number, line);
        for (int c = 0; !whole && c != EOF && c != '\n';) /* the rest of a long reason */
            c = getc(file);
    }
    fclose(file);
    return error;
}

enum ebb_err ebb_leak_suppressions_default(void) {
    char path[sizeof ebb_collector_profile()->path + 16];
    if (ebb_collector_profile()->path[0] == '\0')
        return EBB_OK;
    snprintf(path, sizeof path, "%s", ebb_collector_profile()->path);
    char *slash = strrchr(path, '/');
    snprintf(slash ? slash + 1 : path, 16, "leaks.supp");
    FILE *file = ebbi_open_stream(path);
    if (file == NULL)
        return EBB_OK;
    fclose(file);
    return ebb_leak_suppressions_read(path);
}

/* where: "function (file:line) < function ...". */
static bool stack_has(char *where, const char *pattern) {
    for (char *frame = where, *next; frame; frame = next) {
        next = strstr(frame, " < ");
        if (next) {
            *next = '\0';
            next += 3;
        }
        frame[strcspn(frame, " ")] = '\0';
        if (fnmatch(pattern, frame, 0) == 0)
            return true;
    }
    return false;
}

bool ebbi_site_excused(struct ebb_site *site) {
    uint32_t known = atomic_load_explicit(&site->excused, memory_order_relaxed);
    if (known != NOT_LOOKED)
        return known == EXCUSED;
    known = NOT_EXCUSED;
    for (int i = 0; i < rules_count && known == NOT_EXCUSED; i++) {
        char where[WHERE_MAX];
        if (site->type == NULL || fnmatch(rules[i].type, site->type->name, 0) != 0)
            continue;
        ebb_site_describe(site, EBB_SITE_FRAMES, where, sizeof where);
        if (stack_has(where, rules[i].function))
            known = EXCUSED;
    }
    atomic_store_explicit(&site->excused, known, memory_order_relaxed);
    return known == EXCUSED;
}
