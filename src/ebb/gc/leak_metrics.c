/* leak_metrics -- leaks by type and call site, as metrics.
 *
 * Each site is a time series for whoever scrapes, so their number is bounded: the first SERIES_MAX
 * sites that leak have a row of their own, what the others leak is summed as site "other". Sites
 * that differ in their outer frames alone have one label, and so one row. A row never goes away, so
 * a counter never goes back. */
#include "base/utf8.h"
#include "gc/object.h"
#include <ebb/metric.h>
#include <stdio.h>
#include <string.h>

enum { SERIES_MAX = 100, LABELS_MAX = 384 };

static uint16_t series[SERIES_MAX]; /* indexes of sites */
static size_t series_count;

static bool has_series(uint16_t site) {
    for (size_t i = 0; i < series_count; i++)
        if (series[i] == site)
            return true;
    return false;
}

static void take_series(const struct ebb_site *site, void *context) {
    (void)context;
    if (series_count < SERIES_MAX && !has_series(ebbi_site_index(site)))
        series[series_count++] = ebbi_site_index(site);
}

struct sums {
    uint64_t objects, bytes;
};

static void add_rest(const struct ebb_site *site, void *context) {
    struct sums *rest = context;
    if (has_series(ebbi_site_index(site)))
        return;
    rest->objects += site->leaked;
    rest->bytes += site->leaked_bytes;
}

/* A label's value: backslash, quote and line's end are escaped; '?' for what is not UTF-8. */
static void append_escaped(char *out, size_t size, const char *text) {
    size_t used = strlen(out), bytes;
    for (size_t left = strlen(text); left > 0; text += bytes, left -= bytes) {
        bytes = ebbi_utf8_length(text, left);
        if (used + bytes + 2 > size)
            break;
        if (*text == '\\' || *text == '"' || *text == '\n')
            out[used++] = '\\';
        if (bytes > 1)
            memcpy(out + used, text, bytes);
        else
            out[used] = bytes == 0 ? '?' : *text == '\n' ? 'n' : *text;
        bytes = bytes ? bytes : 1;
        used += bytes;
    }
    out[used] = '\0';
}

static bool same_labels(const struct ebb_site *one, const struct ebb_site *other) {
    return one->type == other->type && strcmp(ebb_site_label(one), ebb_site_label(other)) == 0;
}

/* What the series of this index and all later ones of the same labels have leaked; objects 0: an
 * earlier one has counted it. */
static struct sums sum_of(size_t index) {
    const struct ebb_site *first = ebbi_site_at(series[index]);
    struct sums sum = {0, 0};
    for (size_t i = 0; i < series_count; i++) {
        const struct ebb_site *site = ebbi_site_at(series[i]);
        if (!same_labels(first, site))
            continue;
        if (i < index)
            return (struct sums){0, 0};
        sum.objects += site->leaked;
        sum.bytes += site->leaked_bytes;
    }
    return sum;
}

static void each(void (*see)(const char *, uint64_t, void *), void *context, bool bytes) {
    if (ebb_leaks_count() == 0)
        return;
    ebbi_symbols_begin();
    ebb_leaks_each(take_series, NULL);
    for (size_t i = 0; i < series_count; i++) {
        const struct ebb_site *site = ebbi_site_at(series[i]);
        struct sums sum = sum_of(i);
        char labels[LABELS_MAX];
        if (sum.objects == 0)
            continue;
        snprintf(labels, sizeof labels - 1, "type=\"%s\",site=\"",
                 site->type ? site->type->name : "several");
        append_escaped(labels, sizeof labels - 2, ebb_site_label(site));
        strncat(labels, "\"", sizeof labels - strlen(labels) - 1);
        see(labels, bytes ? sum.bytes : sum.objects, context);
    }
    ebbi_symbols_end();
    struct sums rest = {0, 0};
    ebb_leaks_each(add_rest, &rest);
    if (rest.objects > 0)
        see("type=\"several\",site=\"all others\"", bytes ? rest.bytes : rest.objects, context);
}

static void each_objects(void (*see)(const char *, uint64_t, void *), void *context) {
    each(see, context, false);
}

static void each_bytes(void (*see)(const char *, uint64_t, void *), void *context) {
    each(see, context, true);
}

void ebbi_leak_metrics_start(void) {
    static const struct ebb_metric_family objects = {
        "ebb_leaked_site_objects_total", "Leaked objects by type and call site.", each_objects};
    static const struct ebb_metric_family bytes = {
        "ebb_leaked_site_bytes_total", "Leaked bytes by type and call site.", each_bytes};
    ebb_metric_family_add(&objects);
    ebb_metric_family_add(&bytes);
}
