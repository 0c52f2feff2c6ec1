/* profile -- reads a gc-config/ file: which collector for which use.
 *
 * The files of gc-config/ are compiled in, so that a program finds its profile wherever it was
 * copied to; a file of the same name in a folder that is searched goes first.
 *
 * The file is an INI file without sections; inih reads its lines, the table profile.def says what
 * may stand there. inih's handler is not told the line, so the lines are counted where they are
 * handed to inih. */
#include <gc_config_files.h> /* made when it is built, by cmake/embed.cmake */
#include "base/open.h"
#include <ebb/collector.h>
#include <ini.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BESIDE_PROGRAM "../share/ebb/gc-config" /* as cmake --install lays it */

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

static FILE *open_in_folder(const char *folder, const char *name, char *path, size_t size) {
    if (snprintf(path, size, "%s/%s.conf", folder, name) >= (int)size)
        return NULL;
    return ebbi_open_stream(path);
}

/* In the place where an installation has it, seen from the running program. */
static FILE *open_installed(const char *name, char *path, size_t size) {
    char folder[400];
    ssize_t length = readlink("/proc/self/exe", folder, sizeof folder);
    if (length <= 0 || (size_t)length == sizeof folder)
        return NULL;
    folder[length] = '\0';
    char *file = strrchr(folder, '/') + 1;
    if (file + sizeof BESIDE_PROGRAM > folder + sizeof folder)
        return NULL;
    memcpy(file, BESIDE_PROGRAM, sizeof BESIDE_PROGRAM);
    return open_in_folder(folder, name, path, size);
}

static FILE *open_compiled_in(const char *name, char *path, size_t size) {
    static const struct {
        const char *name;
        const unsigned char *text;
        size_t size;
    } files[] = {
        {"deploy", gc_config_deploy_conf, sizeof gc_config_deploy_conf},
        {"leak-detect", gc_config_leak_detect_conf, sizeof gc_config_leak_detect_conf},
        {"heap-bench", gc_config_heap_bench_conf, sizeof gc_config_heap_bench_conf},
    };
    snprintf(path, size, "%s", name);
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        if (strcmp(name, files[i].name) == 0)
            return fmemopen((void *)(uintptr_t)files[i].text, files[i].size, "r");
    errno = ENOENT;
    return NULL;
}

static bool is_file(const char *name) {
    size_t length = strlen(name);
    return strchr(name, '/') || (length > 5 && strcmp(name + length - 5, ".conf") == 0);
}

static FILE *open_profile(const char *name, char *path, size_t size, bool *compiled_in) {
    const char *folder = getenv("EBB_GC_CONFIG");
    *compiled_in = false;
    if (is_file(name)) {
        snprintf(path, size, "%s", name);
        return ebbi_open_stream(path);
    }
    FILE *file = folder ? open_in_folder(folder, name, path, size) : NULL;
    if (file == NULL)
        file = open_installed(name, path, size);
    *compiled_in = file == NULL;
    return file ? file : open_compiled_in(name, path, size);
}

enum ebb_err ebb_profile_read(struct ebb_profile *profile, const char *name_or_file) {
    char path[512];
    bool compiled_in;
    defaults(profile, name_or_file);
    FILE *file = open_profile(name_or_file, path, sizeof path, &compiled_in);
    if (file == NULL)
        return ebb_err_set(
            EBB_ERR_USAGE,
            "gc profile %s: %s; give deploy, leak-detect, heap-bench or a file's path", path,
            strerror(errno));
    struct reading reading = {.profile = profile, .path = path, .file = file};
    int bad_line = ini_parse_stream(next_line, &reading, on_pair, &reading);
    fclose(file);
    snprintf(profile->path, sizeof profile->path, "%s", compiled_in ? "" : path);
    if (reading.err == EBB_OK && bad_line != 0)
        reading.err = ebb_err_set(EBB_ERR_USAGE, "%s:%d: not a line of the form key = value", path,
                                  bad_line > 0 ? bad_line : 0);
    return reading.err;
}
