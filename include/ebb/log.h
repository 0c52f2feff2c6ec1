/* log -- leveled lines of text for people.
 *
 * A line is formatted on the caller's stack and leaves in one write(2) to the log's descriptor (2
 * at first); there is no allocation, so it works when the heap does not. Each call site is limited
 * to 10 lines a second; what was held back is told in the site's next line. */
#ifndef EBB_LOG_H
#define EBB_LOG_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

enum ebb_log_level { EBB_LOG_ERROR, EBB_LOG_WARN, EBB_LOG_INFO, EBB_LOG_DEBUG, EBB_LOG_TRACE };

struct ebb_log_site {
    _Atomic uint64_t window_ns; /* start of the running second */
    _Atomic uint32_t lines;     /* in that second */
    _Atomic uint32_t held_back;
};

extern _Atomic int
    ebb_log_level_now; /* lines above it cost one load and a branch; EBB_LOG_INFO at first */

void ebb_log_level_set(enum ebb_log_level level);
/* Lines go to fd from now on; the caller owns fd. */
void ebb_log_fd_set(int fd);

/* module: a short word such as "gc", "conn". Cut at 2,047 bytes. When: any thread, not in a signal
 * handler. */
void ebb_log_line(struct ebb_log_site *site, enum ebb_log_level level, const char *module,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));

#define ebb_log(level, module, ...)                                                                \
    do {                                                                                           \
        static struct ebb_log_site ebb_log_site_;                                                  \
        if ((int)(level) <= atomic_load_explicit(&ebb_log_level_now, memory_order_relaxed))        \
            ebb_log_line(&ebb_log_site_, level, module, __VA_ARGS__);                              \
    } while (0)

#define ebb_log_error(module, ...) ebb_log(EBB_LOG_ERROR, module, __VA_ARGS__)
#define ebb_log_warn(module, ...)  ebb_log(EBB_LOG_WARN, module, __VA_ARGS__)
#define ebb_log_info(module, ...)  ebb_log(EBB_LOG_INFO, module, __VA_ARGS__)
#define ebb_log_debug(module, ...) ebb_log(EBB_LOG_DEBUG, module, __VA_ARGS__)

#endif
