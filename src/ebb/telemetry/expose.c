/* expose -- metrics as others read them: Prometheus text 0.0.4, OpenMetrics 1.0, JSON.
 *
 * The two text formats differ in little: OpenMetrics names a counter's family without _total, tells
 * units, and ends in # EOF. A counter whose name has no _total (memcached_exporter has such) is of
 * unknown type there, so that a name is the same in both.
 *
 * 1. A family's rows stand together, whatever table they come from.
 * 2. Nothing is allocated; each piece is formatted on the stack. */
#include "metrics.h"

#include <ebb/assert.h>
#include <ebb/clock.h>
#include <string.h>

#define S EBB_NS_PER_SECOND

enum format { PROMETHEUS, OPENMETRICS };

static bool ends_in(const char *text, const char *end) {
    size_t length = strlen(text), end_length = strlen(end);
    return length > end_length && strcmp(text + length - end_length, end) == 0;
}

static bool is_counter(const struct ebb_metric *metric) {
    return metric->kind == EBB_COUNTER || metric->kind == EBB_PROBE_COUNTER;
}

static const char *type_word(const struct ebb_metric *metric, enum format format) {
    if (metric->kind == EBB_HISTOGRAM)
        return "histogram";
    if (!is_counter(metric))
        return "gauge";
    return format == OPENMETRICS && !ends_in(metric->name, "_total") ? "unknown" : "counter";
}

/* "123.000000045": exact, without floating point. */
static void write_seconds(struct ebb_writer *writer, uint64_t ns) {
    ebb_writef(writer, "%llu.%09llu", (unsigned long long)(ns / S), (unsigned long long)(ns % S));
}

static void write_value(struct ebb_writer *writer, const struct ebb_metric *metric) {
    uint64_t value = ebbi_metric_value(metric);
    if (metric->unit == EBB_UNIT_SECONDS)
        write_seconds(writer, value);
    else if (metric->kind == EBB_GAUGE)
        ebb_writef(writer, "%lld", (long long)value);
    else
        ebb_writef(writer, "%llu", (unsigned long long)value);
}

static void write_histogram(struct ebb_writer *writer, const struct ebb_metric *metric) {
    uint64_t counts[EBBI_HISTOGRAM_BOUNDS + 1], total = 0, sum = ebb_metric_sum_ns(metric);
    const char *comma = metric->labels[0] ? "," : "";
    ebbi_histogram_read(metric, counts);
    for (size_t i = 0; i < EBBI_HISTOGRAM_BOUNDS; i++) {
        total += counts[i];
        ebb_writef(writer, "%s_bucket{%s%sle=\"%g\"} %llu\n", metric->name, metric->labels, comma,
                   (double)ebbi_histogram_bound_ns[i] / (double)S, (unsigned long long)total);
    }
    total += counts[EBBI_HISTOGRAM_BOUNDS];
    const char *open = metric->labels[0] ? "{" : "", *close = metric->labels[0] ? "}" : "";
    ebb_writef(writer, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", metric->name, metric->labels, comma,
               (unsigned long long)total);
    ebb_writef(writer, "%s_sum%s%s%s ", metric->name, open, metric->labels, close);
    write_seconds(writer, sum);
    ebb_writef(writer, "\n%s_count%s%s%s %llu\n", metric->name, open, metric->labels, close,
               (unsigned long long)total);
}

static void write_row(struct ebb_writer *writer, const struct ebb_metric *metric) {
    if (metric->kind == EBB_HISTOGRAM) {
        write_histogram(writer, metric);
        return;
    }
    const char *open = metric->labels[0] ? "{" : "", *close = metric->labels[0] ? "}" : "";
    ebb_writef(writer, "%s%s%s%s ", metric->name, open, metric->labels, close);
    write_value(writer, metric);
    ebb_write(writer, "\n");
}

static void write_head(struct ebb_writer *writer, const struct ebb_metric *metric,
                       enum format format) {
    static const char *const units[] = {
        [EBB_UNIT_NONE] = "", [EBB_UNIT_BYTES] = "bytes", [EBB_UNIT_SECONDS] = "seconds"};
    int length = (int)strlen(metric->name);
    if (format == OPENMETRICS && is_counter(metric) && ends_in(metric->name, "_total"))
        length -= (int)strlen("_total");
    ebb_writef(writer, "# HELP %.*s %s\n# TYPE %.*s %s\n", length, metric->name, metric->help,
               length, metric->name, type_word(metric, format));
    const char *unit = units[metric->unit];
    int unit_length = (int)strlen(unit);
    /* A unit may be told only of a family whose name ends in it. */
    if (format == OPENMETRICS && unit_length > 0 && length > unit_length &&
        strncmp(metric->name + length - unit_length, unit, (size_t)unit_length) == 0 &&
        metric->name[length - unit_length - 1] == '_')
        ebb_writef(writer, "# UNIT %.*s %s\n", length, metric->name, unit);
}

static void write_all(struct ebb_writer *writer, enum format format) {
    const struct ebb_metric *metric;
    ebbi_metrics_refresh();
    for (size_t i = 0; (metric = ebbi_metric_at(i)) != NULL; i++) {
        if (!metric->first)
            continue;
        write_head(writer, metric, format);
        for (; metric; metric = metric->next)
            write_row(writer, metric);
    }
}

/* --- families whose rows come when they are asked for --- */

#define FAMILIES_MAX 16
static const struct ebb_metric_family *families[FAMILIES_MAX];
static size_t families_count;

void ebb_metric_family_add(const struct ebb_metric_family *family) {
    for (size_t i = 0; i < families_count; i++)
        if (families[i] == family)
            return;
    ebb_assert(families_count < FAMILIES_MAX, "no room for family %s", family->name);
    families[families_count++] = family;
}

struct family_rows {
    struct ebb_writer *writer;
    const char *name;
};

static void write_family_row(const char *labels, uint64_t value, void *context) {
    const struct family_rows *rows = context;
    ebb_writef(rows->writer, "%s{%s} %llu\n", rows->name, labels, (unsigned long long)value);
}

static void write_families(struct ebb_writer *writer, enum format format) {
    for (size_t i = 0; i < families_count; i++) {
        const struct ebb_metric_family *family = families[i];
        struct family_rows rows = {writer, family->name};
        int length = (int)strlen(family->name);
        if (format == OPENMETRICS)
            length -= (int)strlen("_total");
        ebb_writef(writer, "# HELP %.*s %s\n# TYPE %.*s counter\n", length, family->name,
                   family->help, length, family->name);
        family->each(write_family_row, &rows);
    }
}

void ebb_metrics_write_prometheus(struct ebb_writer *writer) {
    write_all(writer, PROMETHEUS);
    write_families(writer, PROMETHEUS);
}

void ebb_metrics_write_openmetrics(struct ebb_writer *writer) {
    write_all(writer, OPENMETRICS);
    write_families(writer, OPENMETRICS);
    ebb_write(writer, "# EOF\n");
}

void ebb_metric_write_json(struct ebb_writer *writer, const struct ebb_metric *metric) {
    static const struct {
        const char *name;
        double q;
    } quantiles[] = {{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"p999", 0.999}};
    uint64_t counts[EBBI_HISTOGRAM_BOUNDS + 1];
    ebbi_histogram_read(metric, counts);
    ebb_writef(writer,
               "{\"count\":%llu,\"sum_seconds\":", (unsigned long long)ebb_metric_value(metric));
    write_seconds(writer, ebb_metric_sum_ns(metric));
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++) {
        ebb_writef(writer, ",\"%s\":", quantiles[i].name);
        write_seconds(writer, ebb_metric_quantile_ns(metric, quantiles[i].q));
    }
    ebb_write(writer, ",\"buckets\":[");
    for (size_t i = 0; i <= EBBI_HISTOGRAM_BOUNDS; i++)
        ebb_writef(writer, "%s%llu", i ? "," : "", (unsigned long long)counts[i]);
    ebb_write(writer, "]}");
}

void ebb_metric_write_bounds_json(struct ebb_writer *writer) {
    for (size_t i = 0; i < EBBI_HISTOGRAM_BOUNDS; i++)
        ebb_writef(writer, "%s%g", i ? "," : "[", (double)ebbi_histogram_bound_ns[i] / (double)S);
    ebb_write(writer, "]");
}
