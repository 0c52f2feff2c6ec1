/* limits -- how much memory there is for us.
 *
 * The cgroup that we are in has a limit, and so has each that it lies in; the lowest holds. In a
 * container the path that the kernel tells may not exist in the mounted tree; then the walk up
 * comes to what does exist. */
#include <ebb/inventory.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FILE_TEXT 8192
#define PATH_TEXT 1024
/* Version 1 says "no limit" as the largest multiple of a page. */
#define UNLIMITED (UINT64_C(1) << 60)

/* Reads the start of a small file; "" when there is none. */
static bool read_file(const char *path, char *text, size_t size) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, text, size - 1);
    if (fd >= 0)
        close(fd);
    text[length > 0 ? length : 0] = '\0';
    return length > 0;
}

/* The number in a file; 0 for none, "max" or no limit. */
static uint64_t read_limit(const char *folder, const char *name) {
    char path[PATH_TEXT], text[64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    if (!read_file(path, text, sizeof text))
        return 0;
    uint64_t value = strtoull(text, NULL, 10);
    return value >= UNLIMITED ? 0 : value;
}

static uint64_t lower(uint64_t one, uint64_t other) {
    if (one == 0 || other == 0)
        return one + other;
    return one < other ? one : other;
}

static uint64_t read_machine(const char *root) {
    char path[PATH_TEXT], text[FILE_TEXT];
    snprintf(path, sizeof path, "%s/proc/meminfo", root);
    if (!read_file(path, text, sizeof text))
        return 0;
    const char *total = strstr(text, "MemTotal:");
    return total == NULL ? 0 : strtoull(total + strlen("MemTotal:"), NULL, 10) * 1024;
}

/* The path behind the line that begins or goes on with mark ("0::", ":memory:"), cut at its end. */
static bool path_behind(char *text, const char *mark, char *path, size_t size) {
    const char *at = strstr(text, mark);
    if (at == NULL || (mark[0] != ':' && at != text && at[-1] != '\n'))
        return false;
    at += strlen(mark);
    snprintf(path, size, "%.*s", (int)strcspn(at, "\n"), at);
    return true;
}

/* Walks from mount + path up to mount; takes the lowest limits, and as folder the first that has
 * any say. */
static void walk_up(struct ebb_memory_limits *limits, const char *mount, char *path,
                    const char *hard, const char *soft, const char *usage) {
    for (;;) {
        char folder[PATH_TEXT], probe[PATH_TEXT + 64];
        snprintf(folder, sizeof folder, "%s%s", mount, strcmp(path, "/") == 0 ? "" : path);
        snprintf(probe, sizeof probe, "%s/%s", folder, usage);
        limits->hard = lower(limits->hard, read_limit(folder, hard));
        if (soft != NULL)
            limits->soft = lower(limits->soft, read_limit(folder, soft));
        if (limits->folder[0] == '\0' && access(probe, R_OK) == 0)
            snprintf(limits->folder, sizeof limits->folder, "%.500s", folder);
        char *slash = strrchr(path, '/');
        if (slash == NULL || path[0] == '\0')
            return;
        *slash = '\0';
    }
}

void ebb_memory_limits_read(struct ebb_memory_limits *limits, const char *root) {
    char file[PATH_TEXT], text[FILE_TEXT], path[PATH_TEXT / 2], mount[PATH_TEXT / 2];
    *limits = (struct ebb_memory_limits){.machine = read_machine(root)};
    snprintf(file, sizeof file, "%s/proc/self/cgroup", root);
    read_file(file, text, sizeof text);
    if (path_behind(text, ":memory:", path, sizeof path)) {
        snprintf(mount, sizeof mount, "%.400s/sys/fs/cgroup/memory", root);
        limits->version = 1;
        walk_up(limits, mount, path, "memory.limit_in_bytes", NULL, "memory.usage_in_bytes");
    } else if (path_behind(text, "0::", path, sizeof path)) {
        snprintf(mount, sizeof mount, "%.400s/sys/fs/cgroup", root);
        limits->version = 2;
        walk_up(limits, mount, path, "memory.max", "memory.high", "memory.current");
    }
}

uint64_t ebb_memory_limit_of_group(const struct ebb_memory_limits *limits) {
    return lower(limits->hard, limits->soft);
}

uint64_t ebb_memory_limit(const struct ebb_memory_limits *limits) {
    return lower(ebb_memory_limit_of_group(limits), limits->machine);
}

static uint64_t event_count(const char *text, const char *name) {
    const char *at = strstr(text, name);
    return at == NULL ? 0 : strtoull(at + strlen(name), NULL, 10);
}

uint64_t ebb_memory_events(const struct ebb_memory_limits *limits) {
    char path[PATH_TEXT], text[FILE_TEXT];
    if (limits->version == 1)
        return read_limit(limits->folder, "memory.failcnt");
    snprintf(path, sizeof path, "%s/memory.events", limits->folder);
    if (limits->version != 2 || !read_file(path, text, sizeof text))
        return 0;
    return event_count(text, "high ") + event_count(text, "max ");
}
