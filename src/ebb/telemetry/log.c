/* log -- levels, limits, and the making of an entry.
 *
 * 1. No allocation, and no libc call that allocates.
 * 2. A call site writes LINES_PER_SECOND lines a second at most; its next line says how many it
 * held back.
 * 3. ebb_log_level_now is the most talkative module's level, so that a line that nobody wants costs
 * a load and a branch; a module's own level is looked up after that. */
#include "log.h"

#include "metrics.h"

#include <ebb/assert.h>
#include <ebb/clock.h>
#include <stdarg.h>
#include <string.h>

#define LINES_PER_SECOND         10
#define LINES_PER_SECOND_VERBOSE 1000 /* debug and trace: somebody asked for them */
#define EVENTS_MAX               512
#define MODULES_MAX              48

_Atomic int ebb_log_level_now = EBB_LOG_INFO;

static _Atomic int level_of_all = EBB_LOG_INFO;
static const struct ebb_event *events[EVENTS_MAX];
static size_t events_count;
static struct {
    const char *name;
    _Atomic int level;
} modules[MODULES_MAX];
static size_t modules_count;
static const char *service = "ebb";

static const struct {
    const char *name;
    struct ebb_metric *lines;
} levels[] = {
    [EBB_LOG_ERROR] = {"error", &ebb_metric_log_error},
    [EBB_LOG_WARN] = {"warn", &ebb_metric_log_warn},
    [EBB_LOG_INFO] = {"info", &ebb_metric_log_info},
    [EBB_LOG_DEBUG] = {"debug", &ebb_metric_log_debug},
    [EBB_LOG_TRACE] = {"trace", &ebb_metric_log_trace},
};

#define LEVELS (sizeof(levels) / sizeof(levels[0]))

/* --- levels --- */

const char *ebb_log_level_name(enum ebb_log_level level) {
    return levels[level].name;
}

bool ebb_log_level_parse(const char *name, enum ebb_log_level *level) {
    for (size_t i = 0; i < LEVELS; i++)
        if (strcmp(levels[i].name, name) == 0) {
            *level = (enum ebb_log_level)i;
            return true;
        }
    return false;
}

static _Atomic int *level_of(const char *module) {
    for (size_t i = 0; i < modules_count; i++)
        if (strcmp(modules[i].name, module) == 0)
            return &modules[i].level;
    return NULL;
}

void ebb_log_level_set(enum ebb_log_level level) {
    for (size_t i = 0; i < modules_count; i++)
        atomic_store(&modules[i].level, (int)level);
    atomic_store(&level_of_all, (int)level);
    atomic_store(&ebb_log_level_now, (int)level);
}

bool ebb_log_module_level_set(const char *module, enum ebb_log_level level) {
    _Atomic int *own = level_of(module);
    if (own == NULL)
        return false;
    atomic_store(own, (int)level);
    int most = atomic_load(&level_of_all);
    for (size_t i = 0; i < modules_count; i++)
        if (atomic_load(&modules[i].level) > most)
            most = atomic_load(&modules[i].level);
    atomic_store(&ebb_log_level_now, most);
    return true;
}

void ebb_log_modules_each(void (*see)(const char *, enum ebb_log_level, void *), void *context) {
    for (size_t i = 0; i < modules_count; i++)
        see(modules[i].name, (enum ebb_log_level)atomic_load(&modules[i].level), context);
}

static bool module_wants(const char *module, enum ebb_log_level level) {
    const _Atomic int *own = level_of(module);
    return (int)level <= atomic_load_explicit(own ? own : &level_of_all, memory_order_relaxed);
}

/* --- events --- */

static bool is_known(const struct ebb_event *event) {
    for (size_t i = 0; i < events_count; i++)
        if (events[i] == event)
            return true;
    return false;
}

void ebb_events_add(const struct ebb_event *const *added, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (is_known(added[i]))
            continue;
        ebb_assert(events_count < EVENTS_MAX, "no room for event %s", added[i]->id);
        events[events_count++] = added[i];
        if (level_of(added[i]->module))
            continue;
        ebb_assert(modules_count < MODULES_MAX, "no room for module %s", added[i]->module);
        modules[modules_count].name = added[i]->module;
        atomic_store(&modules[modules_count++].level, atomic_load(&level_of_all));
    }
}

void ebb_events_each(void (*see)(const struct ebb_event *, void *), void *context) {
    for (size_t i = 0; i < events_count; i++)
        see(events[i], context);
}

void ebb_log_service_set(const char *name) {
    service = name;
}

/* --- lines --- */

/* Takes one of the site's lines of this second; false when they are used up. */
static bool site_may_write(struct ebb_log_site *site, enum ebb_log_level level) {
    uint32_t most = level >= EBB_LOG_DEBUG ? LINES_PER_SECOND_VERBOSE : LINES_PER_SECOND;
    uint64_t now = ebb_clock_ns();
    uint64_t window = atomic_load_explicit(&site->window_ns, memory_order_relaxed);
    /* Signed: a window that another thread just began may lie ahead of this thread's now. */
    if (window == 0 || (int64_t)(now - window) >= (int64_t)EBB_NS_PER_SECOND)
        if (atomic_compare_exchange_strong(&site->window_ns, &window, now))
            atomic_store(&site->lines, 0);
    if (atomic_fetch_add(&site->lines, 1) < most)
        return true;
    atomic_fetch_add(&site->held_back, 1);
    ebb_count(&ebb_metric_log_held_back, 1);
    return false;
}

static void write_entry(struct ebb_log_site *site, struct ebbi_log_entry *entry, const char *format,
                        va_list arguments) {
    char message[EBBI_LOG_MESSAGE_MAX], line[EBBI_LOG_LINE_MAX];
    bool coloured;
    enum ebb_log_format form = ebbi_sink_format(&coloured);
    entry->unix_ns = ebb_clock_unix_ns();
    entry->service = service;
    entry->held_back = atomic_exchange(&site->held_back, 0);
    ebbi_log_fill(entry, message, sizeof(message), format, arguments);
    ebbi_sink_put(line, ebbi_log_line(entry, form, coloured, line, sizeof(line)));
    ebb_count(levels[entry->level].lines, 1);
}

void ebb_log_event_write(struct ebb_log_site *site, const struct ebb_event *event,
                         const char *format, ...) {
    if (!module_wants(event->module, event->level) || !site_may_write(site, event->level))
        return;
    struct ebbi_log_entry entry = {.level = event->level, .module = event->module, .event = event};
    va_list arguments;
    va_start(arguments, format);
    write_entry(site, &entry, format, arguments);
    va_end(arguments);
}

void ebb_log_line(struct ebb_log_site *site, enum ebb_log_level level, const char *module,
                  const char *format, ...) {
    if (!module_wants(module, level) || !site_may_write(site, level))
        return;
    struct ebbi_log_entry entry = {.level = level, .module = module};
    va_list arguments;
    va_start(arguments, format);
    write_entry(site, &entry, format, arguments);
    va_end(arguments);
}
