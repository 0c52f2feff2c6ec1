/* line -- an entry as text for people, as ECS JSON, as a datagram for the journal.
 *
 * The message is formatted piece by piece, so that each argument's place in it is known: the fields
 * of the JSON line and of the journal are cut out of the message, and no value is formatted twice.
 *
 * 1. What a peer sent may stand in a line, but cannot begin a new one: control characters become
 * '?'.
 * 2. gmtime may read the zone file, so the date is computed here.
 * 3. A line always ends in a newline, and a JSON line is always complete: what does not fit is left
 * out before it is begun. */
#include "log.h"

#include <ebb/clock.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define SECONDS_PER_DAY 86400
#define SPEC_MAX        24
#define ECS_VERSION     "8.11.0"
#define JSON_TAIL_MAX   2 /* what ends a JSON line */

/* The date of a day since 1970, by the era method: a year that begins in March has its leap day
 * last. */
static void civil_date(int64_t days, int *year, int *month, int *day) {
    const int64_t days_per_era = 146097,
                  days_to_epoch = 719468; /* eras of 400 years from 0000-03-01 */
    int64_t shifted = days + days_to_epoch, era = shifted / days_per_era;
    int64_t of_era = shifted - era * days_per_era;
    int64_t year_of_era = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    int64_t of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    int64_t month_from_march = (5 * of_year + 2) / 153;
    *day = (int)(of_year - (153 * month_from_march + 2) / 5 + 1);
    *month = (int)(month_from_march < 10 ? month_from_march + 3 : month_from_march - 9);
    *year = (int)(year_of_era + era * 400 + (*month <= 2));
}

/* "2026-11-23T10:11:12.345Z" */
static void format_time(char *out, size_t size, uint64_t unix_ns) {
    uint64_t seconds = unix_ns / EBB_NS_PER_SECOND;
    int year, month, day, of_day = (int)(seconds % SECONDS_PER_DAY);
    civil_date((int64_t)(seconds / SECONDS_PER_DAY), &year, &month, &day);
    snprintf(out, size, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", year, month, day, of_day / 3600,
             of_day / 60 % 60, of_day % 60, (int)(unix_ns % EBB_NS_PER_SECOND / EBB_NS_PER_MS));
}

/* --- the message --- */

static void add_text(struct ebb_writer *out, const char *text, size_t length) {
    char piece[EBBI_LOG_MESSAGE_MAX];
    length = length < sizeof(piece) ? length : sizeof(piece);
    for (size_t i = 0; i < length; i++)
        piece[i] = (unsigned char)text[i] < 0x20 || text[i] == 0x7f ? '?' : text[i];
    out->write(out, piece, length);
}

/* Formats one conversion; spec is "%...d" with its flags. The length letters say what was passed.
 */
static void add_conversion(struct ebb_writer *out, const char *spec, va_list *arguments) {
    char value[EBBI_LOG_MESSAGE_MAX];
    size_t end = strlen(spec) - 1;
    const char *l = strchr(spec, 'l');
    bool size = strpbrk(spec, "zjt") != NULL; /* as wide as long on every system we know */
    int length;
    switch (spec[end]) {
    case 's':
        length = snprintf(value, sizeof(value), spec, va_arg(*arguments, const char *));
        break;
    case 'p':
        length = snprintf(value, sizeof(value), spec, va_arg(*arguments, void *));
        break;
    case 'e':
    case 'f':
    case 'g':
        length = snprintf(value, sizeof(value), spec, va_arg(*arguments, double));
        break;
    default:
        if (l && l[1] == 'l')
            length = snprintf(value, sizeof(value), spec, va_arg(*arguments, long long));
        else if (l || size)
            length = snprintf(value, sizeof(value), spec, va_arg(*arguments, long));
        else
            length = snprintf(value, sizeof(value), spec, va_arg(*arguments, int));
    }
    if (length > 0)
        add_text(out, value, (size_t)length < sizeof(value) ? (size_t)length : sizeof(value) - 1);
}

void ebbi_log_fill(struct ebbi_log_entry *entry, char *message, size_t size, const char *format,
                   va_list passed) {
    struct ebb_array_writer array;
    ebb_array_writer_init(&array, message, size);
    va_list arguments;
    va_copy(arguments, passed);
    while (*format) {
        size_t plain = strcspn(format, "%");
        add_text(&array.writer, format, plain);
        format += plain;
        if (format[0] == '%' && format[1] == '%') {
            add_text(&array.writer, "%", 1);
            format += 2;
        } else if (format[0] == '%') {
            size_t length = 1 + strcspn(format + 1, "diuxXcspefg") + 1, at = array.used;
            char spec[SPEC_MAX];
            snprintf(spec, sizeof(spec), "%.*s", (int)length, format);
            add_conversion(&array.writer, spec, &arguments);
            if (entry->fields < EBBI_LOG_FIELDS_MAX) {
                entry->field[entry->fields].at = at;
                entry->field[entry->fields].length = array.used - at;
                entry->field[entry->fields++].number = strchr("diu", spec[length - 1]) != NULL;
            }
            format += length;
        }
    }
    va_end(arguments);
    entry->message = message;
}

void ebbi_log_fill_with(struct ebbi_log_entry *entry, char *message, size_t size,
                        const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    ebbi_log_fill(entry, message, size, format, arguments);
    va_end(arguments);
}

/* --- the forms --- */

static size_t text_line(const struct ebbi_log_entry *entry, bool coloured, char *out, size_t size) {
    static const struct {
        const char *word, *colour;
    } looks[] = {
        [EBB_LOG_ERROR] = {"ERROR", "\033[31m"}, [EBB_LOG_WARN] = {"WARN ", "\033[33m"},
        [EBB_LOG_INFO] = {"INFO ", "\033[32m"},  [EBB_LOG_DEBUG] = {"DEBUG", "\033[36m"},
        [EBB_LOG_TRACE] = {"TRACE", "\033[90m"},
    };
    char when[40], held[64] = "";
    format_time(when, sizeof(when), entry->unix_ns);
    if (entry->held_back > 0)
        snprintf(held, sizeof(held), " (%u more like it held back)", entry->held_back);
    int length = snprintf(out, size, "%s %s%s%s %.32s: %s%s\n", when,
                          coloured ? looks[entry->level].colour : "", looks[entry->level].word,
                          coloured ? "\033[0m" : "", entry->module, entry->message, held);
    size_t bytes = (size_t)length < size ? (size_t)length : size - 1;
    out[bytes - 1] = '\n';
    return bytes;
}

/* The name of the index-th field; its length, 0 when the row has none. */
static int field_name(const struct ebbi_log_entry *entry, int index, const char **name) {
    const char *at = entry->event ? entry->event->fields : "";
    for (; index > 0 && *at; index--)
        at += strcspn(at, ",") + (at[strcspn(at, ",")] == ',');
    *name = at;
    return (int)strcspn(at, ",");
}

/* Adds `"key":"value"`, or nothing at all when that does not fit. */
static void add_json(struct ebb_array_writer *line, const char *key, int key_length,
                     const char *value, size_t length, bool number) {
    size_t before = line->used;
    line->size -= JSON_TAIL_MAX;
    ebb_writef(&line->writer, number ? ",\"%.*s\":" : ",\"%.*s\":\"", key_length, key);
    if (number)
        line->writer.write(&line->writer, value, length);
    else
        ebb_write_json_string(&line->writer, value, length);
    ebb_write(&line->writer, number ? "" : "\"");
    line->size += JSON_TAIL_MAX;
    if (!line->cut)
        return;
    line->cut = false;
    line->used = before;
    line->at[before] = 0;
}

static void add_json_text(struct ebb_array_writer *line, const char *key, const char *text) {
    add_json(line, key, (int)strlen(key), text, strlen(text), false);
}

static void add_json_number(struct ebb_array_writer *line, const char *key, uint64_t number) {
    char text[24];
    int length = snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    add_json(line, key, (int)strlen(key), text, (size_t)length, true);
}

static size_t json_line(const struct ebbi_log_entry *entry, char *out, size_t size) {
    char when[40], key[64];
    struct ebb_array_writer line;
    ebb_array_writer_init(&line, out, size);
    format_time(when, sizeof(when), entry->unix_ns);
    ebb_writef(&line.writer, "{\"@timestamp\":\"%s\",\"log.level\":\"%s\"", when,
               ebb_log_level_name(entry->level));
    add_json_text(&line, "message", entry->message);
    add_json_text(&line, "ecs.version", ECS_VERSION);
    add_json_text(&line, "service.name", entry->service);
    add_json_number(&line, "process.pid", (uint64_t)getpid());
    add_json_text(&line, "log.logger", entry->module);
    if (entry->event)
        add_json_text(&line, "event.code", entry->event->id);
    if (entry->held_back > 0)
        add_json_number(&line, "ebb.held_back", entry->held_back);
    for (int i = 0; i < entry->fields; i++) {
        const char *name;
        int length = field_name(entry, i, &name);
        if (length == 0)
            break;
        length = snprintf(key, sizeof(key), "ebb.%.*s", length, name);
        add_json(&line, key, length, entry->message + entry->field[i].at, entry->field[i].length,
                 entry->field[i].number);
    }
    if (entry->event && entry->level <= EBB_LOG_WARN)
        add_json_text(&line, "event.reason", entry->event->advice);
    ebb_write(&line.writer, "}\n");
    return line.used;
}

static size_t journal_datagram(const struct ebbi_log_entry *entry, char *out, size_t size) {
    static const int priorities[] = {[EBB_LOG_ERROR] = 3,
                                     [EBB_LOG_WARN] = 4,
                                     [EBB_LOG_INFO] = 6,
                                     [EBB_LOG_DEBUG] = 7,
                                     [EBB_LOG_TRACE] = 7};
    struct ebb_array_writer line;
    ebb_array_writer_init(&line, out, size);
    ebb_writef(&line.writer,
               "MESSAGE=%s: %s\nPRIORITY=%d\nSYSLOG_IDENTIFIER=%s\nEBB_MODULE=%s\nEBB_LEVEL=%s\n",
               entry->module, entry->message, priorities[entry->level], entry->service,
               entry->module, ebb_log_level_name(entry->level));
    if (entry->event)
        ebb_writef(&line.writer, "EBB_EVENT=%s\n", entry->event->id);
    if (entry->held_back > 0)
        ebb_writef(&line.writer, "EBB_HELD_BACK=%u\n", entry->held_back);
    for (int i = 0; i < entry->fields; i++) {
        const char *name;
        char key[64] = "EBB_";
        int length = field_name(entry, i, &name);
        for (int c = 0; c < length && c < 48; c++)
            key[4 + c] = name[c] >= 'a' && name[c] <= 'z' ? (char)(name[c] - 'a' + 'A') : name[c];
        if (length > 0 && !line.cut)
            ebb_writef(&line.writer, "%s=%.*s\n", key, (int)entry->field[i].length,
                       entry->message + entry->field[i].at);
    }
    out[line.used - 1] = '\n'; /* when it was cut in the middle of a value */
    return line.used;
}

size_t ebbi_log_line(const struct ebbi_log_entry *entry, enum ebb_log_format format, bool coloured,
                     char *out, size_t size) {
    switch (format) {
    case EBB_LOG_JSON:
        return json_line(entry, out, size);
    case EBB_LOG_JOURNAL:
        return journal_datagram(entry, out, size);
    default:
        return text_line(entry, coloured, out, size);
    }
}
