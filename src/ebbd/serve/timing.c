/* timing -- latency of each request without a clock for each.
 *
 * A slice serves all that a connection has sent, and its answers leave together: so a request took
 * from the moment its bytes were seen to the moment the answers left, and one look at the clock is
 * enough for all requests of a slice. A slice costs 3 us, a look some 20 ns; three looks in each
 * slice would be 2 %.
 *
 * Turns are of two kinds. Those that may be slow are measured, each: much was asked or answered, or
 * a collection ran meanwhile. Their requests count once. Of the others one in `sample_every` is
 * measured, and each of its requests counts `sample_every` times. Which kind a slice is has nothing
 * to do with being sampled, so the histograms' counts, sums and quantiles are those of all requests
 * (in expectation), and the tail that collections and large answers make is complete.
 *
 * The distance to the next sample is random: with a fixed one, as many connections as the distance,
 * which the loop serves in the same order each time, would have one of them measured for ever.
 *
 * 1. Only the worker's thread writes. A reader copies an entry and takes it when its version is
 * even and the same afterwards.
 * 2. A request is counted in `unobserved` once, when it is carried out, and leaves it by an
 * observation or with its slice. */
#include "timing.h"

#include "cmd/events.h"
#include "cmd/metrics.h"
#include "proto/binary.h"

#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/probe.h>
#include <ebb/trace.h>
#include <string.h>

#define SLOW_NS_MIN    EBB_NS_PER_MS /* what is quicker is not slow, however quick the others are */
#define SLOW_FORGET_NS (3600 * EBB_NS_PER_SECOND)
#define WRITE_SLOWEST  64

const uint8_t timing_class_of[REQUEST_VERBS] = {
    [REQUEST_NONE] = TIMING_CLASS_other,
#define EBB_COMMAND(id, name, form, class, ...) [REQUEST_##id] = TIMING_CLASS_##class,
#include "tbl/commands.def"
};

static struct ebb_metric *const latency[TIMING_CLASSES] = {
#define EBB_CLASS(id) [TIMING_CLASS_##id] = &ebb_metric_latency_##id,
#include "tbl/classes.def"
};

/* From 1 to 2 * sample_every - 1, each as likely as the others. */
static uint32_t next_distance(struct timing *timing) {
    timing->random ^= timing->random << 13; /* xorshift32, Marsaglia 2003 */
    timing->random ^= timing->random >> 17;
    timing->random ^= timing->random << 5;
    return 1 + timing->random % (2 * timing->sample_every - 1);
}

void timing_init(struct timing *timing, uint32_t sample_every, int number) {
    timing->sample_every = sample_every;
    timing->random = 2463534242U + (uint32_t)number; /* any but 0 */
    if (sample_every > 0)
        timing->until_sample = next_distance(timing);
}

void timing_begin(struct timing *timing, uint64_t ready_ns) {
    timing->sampled = timing->sample_every > 0 && --timing->until_sample == 0;
    timing->sure = false;
    timing->ready_ns = ready_ns;
    timing->begin_ns = ready_ns > timing->end_ns ? ready_ns : timing->end_ns;
    timing->collections = ebb_collections();
    memset(timing->unobserved, 0, sizeof(timing->unobserved));
    if (!timing->sampled)
        return;
    timing->until_sample = next_distance(timing);
    timing->begin_ns = ebb_clock_ns();
}

static void observe(struct timing *timing, uint64_t ns) {
    uint32_t weight = timing->sure ? 1 : timing->sample_every;
    for (int i = 0; i < TIMING_CLASSES; i++)
        if (timing->unobserved[i] > 0)
            ebb_observe_many_ns(latency[i], ns, (uint64_t)timing->unobserved[i] * weight);
}

void timing_sent(struct timing *timing) {
    if (timing->sample_every == 0)
        return;
    timing->sure = true;
    observe(timing, ebb_clock_ns() - timing->ready_ns);
    memset(timing->unobserved, 0, sizeof(timing->unobserved));
}

void timing_done(struct timing *timing, bool large) {
    if (timing->sample_every > 0 && (large || timing->collections != ebb_collections()))
        timing->sure = true;
    timing->measured = timing->sampled || timing->sure;
    if (timing->measured)
        timing->done_ns = ebb_clock_ns();
}

/* Appends bytes to a text of so many; returns how many it has now. */
static size_t put_text(char out[TIMING_TEXT], size_t used, const char *bytes, size_t length) {
    for (; length > 0 && used + 1 < TIMING_TEXT; length--, bytes++)
        out[used++] = *bytes >= ' ' && *bytes < 0x7f ? *bytes : '?';
    return used;
}

static size_t put_frame(char out[TIMING_TEXT], const char *bytes, size_t length) {
    struct binary frame;
    size_t taken;
    if (binary_find(bytes, length, &frame, &taken) != BINARY_FRAME)
        return 0;
    const char *verb = request_verb_name(frame.verb);
    size_t used = put_text(out, 0, verb, strlen(verb));
    if (frame.key.length > 0)
        used = put_text(out, used, " ", 1);
    return put_text(out, used, frame.key.at, frame.key.length);
}

static size_t put_line(char out[TIMING_TEXT], const char *bytes, size_t length) {
    size_t end = 0;
    while (end < length && end < TIMING_TEXT && bytes[end] != '\n' && bytes[end] != '\r')
        end++;
    return put_text(out, 0, bytes, end);
}

void timing_text(char out[TIMING_TEXT], const char *request, size_t length) {
    bool binary = length > 0 && (unsigned char)*request == BINARY_MAGIC;
    size_t used = (binary ? put_frame : put_line)(out, request, length);
    memset(out + used, 0, TIMING_TEXT - used);
}

static uint64_t total_ns(const struct timing_slow *slow) {
    return slow->queue_ns + slow->store_ns + slow->send_ns;
}

/* A slice of another worker's may have ended a moment after this now. */
static bool is_remembered(const struct timing_slow *slow, uint64_t now_ns) {
    return slow->ended_ns + SLOW_FORGET_NS > now_ns;
}

/* Takes the place of the quickest remembered slice, if it was slower. */
static void remember(struct timing *timing, const struct timing_slice *slice) {
    struct timing_slow slow = {.unix_ns = ebb_clock_unix_ns(),
                               .ended_ns = timing->end_ns,
                               .queue_ns = timing->begin_ns - timing->ready_ns,
                               .store_ns = timing->done_ns - timing->begin_ns,
                               .send_ns = timing->end_ns - timing->done_ns,
                               .bytes = slice->bytes,
                               .requests = slice->requests};
    int least = 0;
    uint64_t least_ns = UINT64_MAX;
    for (int i = 0; i < TIMING_SLOWEST; i++) {
        const struct timing_slow *known = &timing->slowest[i].slice;
        uint64_t ns = is_remembered(known, slow.ended_ns) ? total_ns(known) : 0;
        if (ns < least_ns) {
            least = i;
            least_ns = ns;
        }
    }
    if (total_ns(&slow) <= least_ns)
        return;
    if (slice->text)
        timing_text(slow.text, slice->text, slice->length);
    ebb_log_event(slow, slow.text, total_ns(&slow) / 1000, slow.requests, slow.bytes);
    _Atomic uint32_t *version = &timing->slowest[least].version;
    atomic_fetch_add(version, 1);
    timing->slowest[least].slice = slow;
    atomic_fetch_add(version, 1);
}

/* The slice as slices of this thread: the whole, and its two halves. */
static void trace_slice(const struct timing *timing, const struct timing_slice *slice) {
    char text[TIMING_TEXT] = "";
    if (slice->text)
        timing_text(text, slice->text, slice->length);
    ebb_trace_slice(EBB_TRACK_THREAD, slice->requests ? request_verb_name(slice->verb) : "nothing",
                    timing->begin_ns, timing->end_ns, text, "queue_ns",
                    timing->begin_ns - timing->ready_ns);
    ebb_trace_slice(EBB_TRACK_THREAD, "carry out", timing->begin_ns, timing->done_ns, NULL,
                    "requests", slice->requests);
    ebb_trace_slice(EBB_TRACK_THREAD, "send", timing->done_ns, timing->end_ns, NULL, "bytes",
                    slice->bytes);
}

void timing_end(struct timing *timing, const struct timing_slice *slice) {
    if (!timing->measured)
        return;
    timing->end_ns = ebb_clock_ns();
    uint64_t ns = timing->end_ns - timing->ready_ns;
    bool slow = ns >= SLOW_NS_MIN;
    EBB_PROBE4(request, slice->text, slice->length, slice->requests, ns);
    if (slow)
        remember(timing, slice);
    if ((slow || timing->sampled) && ebb_trace_on())
        trace_slice(timing, slice);
    observe(timing, ns);
}

/* --- reading --- */

static bool copy_slow(struct timing *timing, int index, struct timing_slow *slow) {
    _Atomic uint32_t *version = &timing->slowest[index].version;
    uint32_t before = atomic_load(version);
    *slow = timing->slowest[index].slice;
    atomic_thread_fence(memory_order_acquire);
    return before % 2 == 0 && before > 0 && atomic_load(version) == before;
}

/* Puts it in its place among the slowest first. Returns how many there are now. */
static int insert(struct timing_slow *slowest, int *workers, int count,
                  const struct timing_slow *slow, int worker) {
    int at = count < WRITE_SLOWEST ? count : WRITE_SLOWEST;
    for (; at > 0 && total_ns(&slowest[at - 1]) < total_ns(slow); at--)
        if (at < WRITE_SLOWEST) {
            slowest[at] = slowest[at - 1];
            workers[at] = workers[at - 1];
        }
    if (at == WRITE_SLOWEST)
        return count;
    slowest[at] = *slow;
    workers[at] = worker;
    return count < WRITE_SLOWEST ? count + 1 : count;
}

void timing_write_slowest(struct timing *const *worker_list, int count, struct ebb_writer *writer) {
    struct timing_slow slowest[WRITE_SLOWEST], slow;
    int workers[WRITE_SLOWEST], found = 0;
    uint64_t now_ns = ebb_clock_ns();
    for (int worker = 0; worker < count; worker++)
        for (int i = 0; i < TIMING_SLOWEST; i++)
            if (copy_slow(worker_list[worker], i, &slow) && is_remembered(&slow, now_ns))
                found = insert(slowest, workers, found, &slow, worker);
    ebb_write(writer, "[");
    for (int i = 0; i < found; i++) {
        const struct timing_slow *at = &slowest[i];
        ebb_writef(writer,
                   "%s\n{\"time\":%.3f,\"worker\":%d,\"seconds\":%.9f,\"queue_seconds\":%.9f,"
                   "\"store_seconds\":%.9f,\"send_seconds\":%.9f,\"bytes\":%llu,\"requests\":%u,"
                   "\"request\":\"",
                   i ? "," : "", (double)at->unix_ns / 1e9, workers[i], (double)total_ns(at) / 1e9,
                   (double)at->queue_ns / 1e9, (double)at->store_ns / 1e9,
                   (double)at->send_ns / 1e9, (unsigned long long)at->bytes, at->requests);
        ebb_write_json_string(writer, at->text, strlen(at->text));
        ebb_write(writer, "\"}");
    }
    ebb_write(writer, "]");
}
