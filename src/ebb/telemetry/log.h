/* log -- between making a line (log.c), its forms (line.c) and the thread that writes it (sink.c).
 */
#ifndef EBBI_TELL_LOG_H
#define EBBI_TELL_LOG_H

#include <ebb/log.h>
#include <stdarg.h>

#define EBBI_LOG_MESSAGE_MAX 2048
#define EBBI_LOG_LINE_MAX    4096
#define EBBI_LOG_FIELDS_MAX  12

/* An event, filled in. */
struct ebbi_log_entry {
    uint64_t unix_ns;
    enum ebb_log_level level;
    const char *module, *service;
    const struct ebb_event *event; /* NULL: a line without a row */
    const char *message;
    uint32_t held_back;
    struct {
        size_t at, length; /* in message */
        bool number;
    } field[EBBI_LOG_FIELDS_MAX];
    int fields;
};

/* Formats into message and remembers where each argument came to stand. */
void ebbi_log_fill(struct ebbi_log_entry *entry, char *message, size_t size, const char *format,
                   va_list arguments);

void ebbi_log_fill_with(struct ebbi_log_entry *entry, char *message, size_t size,
                        const char *format, ...);

/* The entry as one line (or one datagram) in out; returns its bytes. */
size_t ebbi_log_line(const struct ebbi_log_entry *entry, enum ebb_log_format format, bool coloured,
                     char *out, size_t size);

/* Hands a line on. Never waits once the thread runs. */
void ebbi_sink_put(const char *line, size_t length);
/* The form that lines have now. */
enum ebb_log_format ebbi_sink_format(bool *coloured);

#endif
