/* trace -- slices and counters in one array, filled by all threads.
 *
 * A writer takes a place by adding one, fills it, and marks it ready; nothing is ever moved or
 * freed under it. The memory is the caller's and collected, so that a writer that comes late, after
 * the end, writes into memory that still is the trace's.
 *
 * 1. A place is written once. What is not ready when the JSON is written is left out. */
#include <ebb/trace.h>

#include "metrics.h"

#include <ebb/clock.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TRACKS_TID                                                                                 \
    1 /* threads have numbers of the kernel's; tracks those below, which it gave away at boot */
#define THREADS_MAX    128
#define NAME_MAX_BYTES 32

struct ebb_trace *_Atomic ebb_trace_now;

static const char *const track_names[] = {[EBB_TRACK_THREAD] = "threads",
                                          [EBB_TRACK_COLLECTIONS] = "collections",
                                          [EBB_TRACK_EVICTIONS] = "evictions"};
#define TRACKS (sizeof(track_names) / sizeof(track_names[0]))

bool ebb_trace_begin(void *memory, size_t bytes) {
    struct ebb_trace *trace = memory, *nobody = NULL;
    memset(memory, 0, bytes);
    trace->begin_ns = ebb_clock_ns();
    trace->size = (uint32_t)((bytes - sizeof(*trace)) / sizeof(trace->event[0]));
    return atomic_compare_exchange_strong(&ebb_trace_now, &nobody, trace);
}

struct ebb_trace *ebb_trace_end(void) {
    return atomic_exchange(&ebb_trace_now, NULL);
}

static int this_thread(void) {
    static _Thread_local int number;
    if (number == 0)
        number = (int)syscall(SYS_gettid);
    return number;
}

/* A place of its own; NULL: nobody traces, or the memory is full. */
static struct ebb_trace_event *place(void) {
    struct ebb_trace *trace = atomic_load_explicit(&ebb_trace_now, memory_order_acquire);
    if (trace == NULL)
        return NULL;
    uint32_t at = atomic_fetch_add_explicit(&trace->used, 1, memory_order_relaxed);
    if (at < trace->size)
        return &trace->event[at];
    atomic_fetch_sub_explicit(&trace->used, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&trace->lost, 1, memory_order_relaxed);
    ebb_count(&ebb_metric_trace_lost, 1);
    return NULL;
}

void ebb_trace_slice(enum ebb_trace_track track, const char *name, uint64_t begin_ns,
                     uint64_t end_ns, const char *text, const char *value_name, uint64_t value) {
    struct ebb_trace_event *event = place();
    if (event == NULL)
        return;
    event->name = name;
    event->track = (uint8_t)track;
    event->thread = track == EBB_TRACK_THREAD ? this_thread() : (int)(TRACKS_TID + track);
    event->begin_ns = begin_ns;
    event->length_ns = end_ns > begin_ns ? end_ns - begin_ns : 0;
    event->value_name = value_name;
    event->value = value;
    if (text)
        strncpy(event->text, text, EBB_TRACE_TEXT - 1);
    atomic_store_explicit(&event->ready, true, memory_order_release);
}

void ebb_trace_counter(const char *name, uint64_t value) {
    struct ebb_trace_event *event = place();
    if (event == NULL)
        return;
    event->name = name;
    event->is_counter = true;
    event->begin_ns = ebb_clock_ns();
    event->length_ns = value;
    atomic_store_explicit(&event->ready, true, memory_order_release);
}

/* --- JSON --- */

static void write_thread_name(struct ebb_writer *writer, int thread, const char *name) {
    ebb_writef(
        writer,
        ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":%d,\"tid\":%d,\"args\":{\"name\":\"",
        (int)getpid(), thread);
    ebb_write_json_string(writer, name, strlen(name));
    ebb_write(writer, "\"}}");
}

/* Each thread that has a slice, once. */
static void write_names(const struct ebb_trace *trace, uint32_t used, struct ebb_writer *writer) {
    int seen[THREADS_MAX], count = 0;
    for (size_t track = 1; track < TRACKS; track++)
        write_thread_name(writer, (int)(TRACKS_TID + track), track_names[track]);
    for (uint32_t i = 0; i < used; i++) {
        const struct ebb_trace_event *event = &trace->event[i];
        int at = 0;
        while (at < count && seen[at] != event->thread)
            at++;
        if (at < count || count == THREADS_MAX || event->is_counter || !event->ready ||
            event->track != EBB_TRACK_THREAD)
            continue;
        char name[NAME_MAX_BYTES];
        ebbi_thread_name(event->thread, name, sizeof(name));
        write_thread_name(writer, event->thread, name);
        seen[count++] = event->thread;
    }
}

/* Microseconds since the trace began; what began earlier has a negative one. */
static double since_begin_us(const struct ebb_trace *trace, uint64_t ns) {
    return (double)(int64_t)(ns - trace->begin_ns) / 1e3;
}

static void write_slice(const struct ebb_trace *trace, const struct ebb_trace_event *event,
                        struct ebb_writer *writer) {
    ebb_writef(
        writer,
        ",\n{\"name\":\"%s\",\"cat\":\"%s\",\"ph\":\"X\",\"ts\":%.3f,\"dur\":%.3f,\"pid\":%d,"
        "\"tid\":%d,\"args\":{",
        event->name, track_names[event->track], since_begin_us(trace, event->begin_ns),
        (double)event->length_ns / 1e3, (int)getpid(), event->thread);
    if (event->text[0]) {
        ebb_write(writer, "\"what\":\"");
        ebb_write_json_string(writer, event->text, strlen(event->text));
        ebb_write(writer, "\"");
    }
    if (event->value_name)
        ebb_writef(writer, "%s\"%s\":%llu", event->text[0] ? "," : "", event->value_name,
                   (unsigned long long)event->value);
    ebb_write(writer, "}}");
}

void ebb_trace_write_json(const struct ebb_trace *trace, struct ebb_writer *writer) {
    uint32_t used = atomic_load(&((struct ebb_trace *)(uintptr_t)trace)->used);
    used = used < trace->size ? used : trace->size;
    ebb_writef(
        writer,
        "{\"displayTimeUnit\":\"ms\",\"traceEvents\":[\n{\"name\":\"process_name\",\"ph\":\"M\","
        "\"pid\":%d,\"tid\":0,\"args\":{\"name\":\"ebb\"}}",
        (int)getpid());
    write_names(trace, used, writer);
    for (uint32_t i = 0; i < used; i++) {
        const struct ebb_trace_event *event = &trace->event[i];
        if (!atomic_load_explicit((_Atomic bool *)(uintptr_t)&event->ready, memory_order_acquire))
            continue;
        if (event->is_counter)
            ebb_writef(
                writer,
                ",\n{\"name\":\"%s\",\"ph\":\"C\",\"ts\":%.3f,\"pid\":%d,\"tid\":0,\"args\":{"
                "\"bytes\":%llu}}",
                event->name, since_begin_us(trace, event->begin_ns), (int)getpid(),
                (unsigned long long)event->length_ns);
        else
            write_slice(trace, event, writer);
    }
    ebb_writef(writer, "\n],\"otherData\":{\"lost_events\":%u}}\n",
               atomic_load((_Atomic uint32_t *)(uintptr_t)&trace->lost));
}
