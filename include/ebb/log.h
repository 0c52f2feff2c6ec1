/* log -- what happened, for people and for machines.
 *
 * What a program may have to say is a table of events, one row each:
 *     EBB_EVENT(id, LEVEL, "module", "message with %s", "field,field", "what to do about it")
 * and ebb_log_event(id, ...) says it, its arguments checked against the row's format. A field names
 * the argument at its place. The line is made on the caller's stack and handed to a writer thread
 * through a bounded ring (before ebb_log_start: written at once), so that a full disk or a slow
 * reader costs lines, which are counted, and never time. Nothing is allocated: it works when the
 * heap does not. Each call site is limited to 10 lines a second (debug and trace: 1,000); what was
 * held back is told in its next line. */
#ifndef EBB_LOG_H
#define EBB_LOG_H

#include <ebb/writer.h>
#include <inttypes.h>
#include <ebb/atomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

enum ebb_log_level { EBB_LOG_ERROR, EBB_LOG_WARN, EBB_LOG_INFO, EBB_LOG_DEBUG, EBB_LOG_TRACE };

enum ebb_log_format {
    EBB_LOG_TEXT,    /* a line for people; coloured when it goes to a terminal */
    EBB_LOG_JSON,    /* a line in Elastic Common Schema, as Logstash and Filebeat read it */
    EBB_LOG_JOURNAL, /* the journal's own datagram; the descriptor is a socket connected to it */
};

struct ebb_event {
    const char *id;
    enum ebb_log_level level;
    const char *module; /* a short word such as "gc", "conn" */
    const char *format; /* as printf; %n and * are not known */
    const char *fields; /* names of the arguments, with commas, "" without any */
    const char *advice; /* what to do about it */
};

struct ebb_log_site {
    EBB_ATOMIC(uint64_t) window_ns; /* start of the running second */
    EBB_ATOMIC(uint32_t) lines;     /* in that second */
    EBB_ATOMIC(uint32_t) held_back;
};

/* The uses of a table: declarations (for ebb_log_event), definitions, list for ebb_events_add. */
#define EBB_EVENT_DECLARE(id, level, module, format, fields, advice)                               \
    extern const struct ebb_event ebb_event_##id;                                                  \
    enum { ebb_event_level_##id = EBB_LOG_##level };                                               \
    static const char ebb_event_format_##id[] __attribute__((unused)) = format;
#define EBB_EVENT_DEFINE(id_, level_, module_, format_, fields_, advice_)                          \
    extern const struct ebb_event ebb_event_##id_;                                                 \
    const struct ebb_event ebb_event_##id_ = {#id_,    EBB_LOG_##level_, module_,                  \
                                              format_, fields_,          advice_};
#define EBB_EVENT_ADDRESS(id, ...) &ebb_event_##id,

/* Makes events and their modules known: to the page that lists them, to levels by module. When:
 * start. Twice does nothing. */
void ebb_events_add(const struct ebb_event *const *events, size_t count);
/* Calls see for each known event. */
void ebb_events_each(void (*see)(const struct ebb_event *event, void *context), void *context);

extern EBB_ATOMIC(int)
    ebb_log_level_now; /* the most talkative module's; lines above it cost one load and a branch */

static inline bool ebb_log_on(enum ebb_log_level level) {
    return (int)level <= atomic_load_explicit(&ebb_log_level_now, memory_order_relaxed);
}

/* Of all modules; of one. False: no event has this module. EBB_LOG_INFO at first. */
void ebb_log_level_set(enum ebb_log_level level);
bool ebb_log_module_level_set(const char *module, enum ebb_log_level level);
/* "error", "warn", "info", "debug", "trace"; parse: false for another word. */
const char *ebb_log_level_name(enum ebb_log_level level);
bool ebb_log_level_parse(const char *name, enum ebb_log_level *level);
/* Calls see for each known module. */
void ebb_log_modules_each(void (*see)(const char *module, enum ebb_log_level level, void *context),
                          void *context);

/* Lines go to fd from now on; the caller owns fd. Who wants another file behind the
 * same fd dup3s it there, and says so here: the writer may be in the middle of a line. service:
 * static text, the program's name. */
void ebb_log_fd_set(int fd);
void ebb_log_format_set(enum ebb_log_format format); /* EBB_LOG_TEXT at first */
void ebb_log_service_set(const char *service);

/* From now on a thread writes the lines. When: after every fork that goes on. */
void ebb_log_start(void);
/* Waits a moment for the ring to be written, ends the thread. Lines are written at once again, but
 * if the reader did not take the ring's, further ones are dropped. */
void ebb_log_stop(void);

/* When: any thread, not in a signal handler. Messages are cut at 2,047 bytes. */
void ebb_log_event_write(struct ebb_log_site *site, const struct ebb_event *event,
                         const char *format, ...) __attribute__((format(printf, 3, 4)));
#define ebb_log_event(id, ...)                                                                     \
    do {                                                                                           \
        static struct ebb_log_site ebb_log_site_;                                                  \
        if (ebb_log_on((enum ebb_log_level)ebb_event_level_##id))                                  \
            ebb_log_event_write(&ebb_log_site_, &ebb_event_##id, ebb_event_format_##id,            \
                                ##__VA_ARGS__);                                                    \
    } while (0)

/* A line without a row: for small programs and for trying things out. */
void ebb_log_line(struct ebb_log_site *site, enum ebb_log_level level, const char *module,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));

#define ebb_log(level, module, ...)                                                                \
    do {                                                                                           \
        static struct ebb_log_site ebb_log_site_;                                                  \
        if (ebb_log_on(level))                                                                     \
            ebb_log_line(&ebb_log_site_, level, module, __VA_ARGS__);                              \
    } while (0)

#define ebb_log_error(module, ...) ebb_log(EBB_LOG_ERROR, module, __VA_ARGS__)
#define ebb_log_warn(module, ...)  ebb_log(EBB_LOG_WARN, module, __VA_ARGS__)
#define ebb_log_info(module, ...)  ebb_log(EBB_LOG_INFO, module, __VA_ARGS__)
#define ebb_log_debug(module, ...) ebb_log(EBB_LOG_DEBUG, module, __VA_ARGS__)

__END_DECLS

#endif
