/* profile -- reads a gc-config/ file: which collector for which use.
 *
 * The file is an INI file without sections; inih reads its lines, the table profile.def says what
 * may stand there. inih's handler is not told the line, so the lines are counted where they are
 * handed to inih. */
#include <ebb/collector.h>
#include <ini.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef EBB_GC_CONFIG_SOURCE
#define EBB_GC_CONFIG_SOURCE "gc-config"
#endif
#ifndef EBB_GC_CONFIG_INSTALLED
#define EBB_GC_CONFIG_INSTALLED "/usr/share/ebb/gc-config"
#endif

struct reading {
    struct ebb_profile *profile;
    const char *path;
    FILE *file;
    int line;
    enum ebb_err err;
};

static char *next_line(char *out, int size, void *stream) {
    struct reading *reading = stream;
    char *got = fgets(out, size, reading->file);
    if (got)
        reading->line++;
    return got;
}

static enum ebb_err take_bool(struct reading *reading, bool *member, const char *key,
                              const char *value) {
    if (strcmp(value, "yes") == 0 || strcmp(value, "on") == 0 || strcmp(value, "true") == 0)
        *member = true;
    else if (strcmp(value, "no") == 0 || strcmp(value, "off") == 0 || strcmp(value, "false") == 0)
        *member = false;
    else
        return ebb_err_set(EBB_ERR_USAGE, "%s:%d: %s = \"%s\": give yes or no", reading->path,
                           reading->line, key, value);
    return EBB_OK;
}

static enum ebb_err take_number(struct reading *reading, uint64_t *member, const char *key,
                                const char *value, uint64_t low, uint64_t high) {
    char *end;
    errno = 0;
    unsigned long long number = strtoull(value, &end, 10);
    if (value[0] < '0' || value[0] > '9' || *end != '\0' || errno != 0 || number < low ||
        number > high)
        return ebb_err_set(EBB_ERR_USAGE,
                           "%s:%d: %s = \"%s\": give a whole number from %llu to %llu",
                           reading->path, reading->line, key, value, (unsigned long long)low,
                           (unsigned long long)high);
    *member = number;
    return EBB_OK;
}

static enum ebb_err take(struct reading *reading, const char *section, const char *key,
                         const char *value) {
    if (section[0] != '\0')
        return ebb_err_set(EBB_ERR_USAGE, "%s:%d: [%s]: a profile has no sections; remove the line",
                           reading->path, reading->line, section);
#define EBB_PROFILE_BOOL(member, dflt, help)                                                       \
    if (strcmp(key, #member) == 0)                                                                 \
        return take_bool(reading, &reading->profile->member, key, value);
#define EBB_PROFILE_NUMBER(member, dflt, low, high, help)                                          \
    if (strcmp(key, #member) == 0)                                                                 \
        return take_number(reading, &reading->profile->member, key, value, low, high);
#include <ebb/tbl/profile.def>
    return ebb_err_set(EBB_ERR_USAGE,
                       "%s:%d: unknown key \"%s\"; gc-config/README.md lists the known ones",
                       reading->path, reading->line, key);
}

static int on_pair(void *user, const char *section, const char *key, const char *value) {
    struct reading *reading = user;
    if (reading->err == EBB_OK) /* the first error is the one to tell */
        reading->err = take(reading, section, key, value ? value : "");
    return reading->err == EBB_OK;
}

static void defaults(struct ebb_profile *profile, const char *name) {
    *profile = (struct ebb_profile){
#define EBB_PROFILE_BOOL(key, dflt, help)              .key = dflt,
#define EBB_PROFILE_NUMBER(key, dflt, low, high, help) .key = dflt,
#include <ebb/tbl/profile.def>
    };
    snprintf(profile->name, sizeof profile->name, "%s", name);
}

static FILE *open_profile(const char *name, char *path, size_t size) {
    size_t length = strlen(name);
    if (strchr(name, '/') || (length > 5 && strcmp(name + length - 5, ".conf") == 0)) {
        snprintf(path, size, "%s", name);
        return fopen(path, "re");
    }
    const char *folders[] = {getenv("EBB_GC_CONFIG"), EBB_GC_CONFIG_SOURCE,
                             EBB_GC_CONFIG_INSTALLED};
    for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
        if (folders[i] == NULL)
            continue;
        snprintf(path, size, "%s/%s.conf", folders[i], name);
        FILE *file = fopen(path, "re");
        if (file)
            return file;
    }
    snprintf(path, size, "%s", name);
    return NULL;
}

enum ebb_err ebb_profile_read(struct ebb_profile *profile, const char *name_or_file) {
    char path[512];
    defaults(profile, name_or_file);
    FILE *file = open_profile(name_or_file, path, sizeof path);
    if (file == NULL)
        return ebb_err_set(
            EBB_ERR_USAGE,
            "gc profile %s: %s; give deploy, leak-detect, heap-bench or a file's path", path,
            strerror(errno));
    struct reading reading = {.profile = profile, .path = path, .file = file};
    int bad_line = ini_parse_stream(next_line, &reading, on_pair, &reading);
    fclose(file);
    snprintf(profile->path, sizeof profile->path, "%s", path);
    if (reading.err == EBB_OK && bad_line != 0)
        reading.err = ebb_err_set(EBB_ERR_USAGE, "%s:%d: not a line of the form key = value", path,
                                  bad_line > 0 ? bad_line : 0);
    return reading.err;
}
