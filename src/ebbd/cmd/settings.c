/* settings -- what the bounds of a row cannot say is checked here. */
#include "settings.h"

#include "options.h"

#include <stdlib.h>
#include <string.h>

#define MODE_MAX       0777
#define PORT_DEFAULT   11211
#define PORT_NOT_GIVEN UINT64_MAX

static const struct ebb_setting rows[] = {
#define EBB_SETTING(...) EBB_SETTING_ROW(settings, __VA_ARGS__)
#include "tbl/settings.def"
};

bool settings_unix_mode(const struct settings *settings, unsigned *mode) {
    char *end;
    unsigned long number = strtoul(settings->unix_mask, &end, 8);
    *mode = (unsigned)number;
    return end != settings->unix_mask && *end == '\0' && number <= MODE_MAX;
}

static const char *const protocols[] = {
    [SETTINGS_AUTO] = "auto",
    [SETTINGS_ASCII] = "ascii",
    [SETTINGS_BINARY] = "binary",
};

static bool find_protocol(const struct settings *settings, enum settings_protocol *protocol) {
    for (int i = SETTINGS_AUTO; i <= SETTINGS_BINARY; i++)
        if (strcmp(settings->protocol, protocols[i]) == 0) {
            *protocol = (enum settings_protocol)i;
            return true;
        }
    return false;
}

enum settings_protocol settings_protocol(const struct settings *settings) {
    enum settings_protocol protocol = SETTINGS_AUTO;
    find_protocol(settings, &protocol);
    return protocol;
}

bool settings_print_only(const struct settings *settings) {
    return settings->help || settings->show_version || settings->license || settings->flags_table ||
           settings->compatibility;
}

enum ebb_err settings_read(struct settings *settings, int argc, char **argv) {
    settings->port = PORT_NOT_GIVEN;
    enum ebb_err error =
        ebb_settings_parse(rows, sizeof(rows) / sizeof(rows[0]), settings, argc, argv);
    unsigned mode;
    enum settings_protocol protocol;
    if (error || settings_print_only(settings))
        return error;
    if (settings->port == PORT_NOT_GIVEN)
        settings->port = settings->udp_port ? settings->udp_port : PORT_DEFAULT;
    settings->threads_asked = settings->threads;
    if (settings->threads > SETTINGS_THREADS_MAX)
        settings->threads = SETTINGS_THREADS_MAX;
    if (settings->prefix_delimiter && settings->prefix_delimiter[0] == '\0')
        return ebb_err_set(EBB_ERR_USAGE, "--detail-delimiter (-D): \"\" is no character");
    error = options_read(settings);
    if (error)
        return error;
    if (!find_protocol(settings, &protocol))
        return ebb_err_set(EBB_ERR_USAGE,
                           "--protocol (-B): \"%s\" is none of ascii, binary and auto",
                           settings->protocol);
    if (!settings_unix_mode(settings, &mode))
        return ebb_err_set(EBB_ERR_USAGE,
                           "--unix-mask (-a): \"%s\" is not an octal number up to 777",
                           settings->unix_mask);
    /* memcached's rule: half the memory at most for one item. */
    if (settings->item_size_max > (settings->memory_mib << 20) / 2)
        return ebb_err_set(
            EBB_ERR_USAGE,
            "--max-item-size (-I): an item may be half the memory limit (-m %llu) at most",
            (unsigned long long)settings->memory_mib);
    return EBB_OK;
}

void settings_write_table(struct ebb_writer *writer) {
    options_write_table(rows, sizeof(rows) / sizeof(rows[0]), writer);
}

void settings_write_help(struct ebb_writer *writer) {
    ebb_write(writer, "ebbd " EBB_VERSION ", a memcached-compatible cache daemon\n\n");
    ebb_settings_write_help(rows, sizeof(rows) / sizeof(rows[0]), writer);
}
