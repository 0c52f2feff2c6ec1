/* settings -- what the bounds of a row cannot say is checked here. */
#include "settings.h"

#include <stdlib.h>

#define MODE_MAX 0777

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

enum ebb_err settings_read(struct settings *settings, int argc, char **argv) {
    enum ebb_err error =
        ebb_settings_parse(rows, sizeof(rows) / sizeof(rows[0]), settings, argc, argv);
    unsigned mode;
    if (error || settings->help || settings->show_version)
        return error;
    if (settings->udp_port != 0)
        return ebb_err_set(EBB_ERR_USAGE,
                           "--udp-port (-U): ebbd speaks no UDP; the only value is 0");
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

void settings_write_help(struct ebb_writer *writer) {
    ebb_write(writer, "ebbd " EBB_VERSION ", a memcached-compatible cache daemon\n\n");
    ebb_settings_write_help(rows, sizeof(rows) / sizeof(rows[0]), writer);
}
