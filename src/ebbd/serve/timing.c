/* timing -- latency without a clock for every request.
 *
 * A turn serves all that a connection has sent. One turn in `sample_every` is measured, with three
 * looks at the clock (some 20 ns each, in a turn of 3 us); besides it those that may be slow: much
 * was asked or answered, or a collection ran meanwhile. Their beginning is the loop's own time, or
 * the end of the turn measured before. Sampled turns go into the histogram of their first request's
 * class; every measured turn may be among the slowest.
 *
 * 1. Only the station's thread writes. A reader copies an entry and takes it when its version is
 * even and the same afterwards. */
#include "timing.h"

#include "cmd/events.h"
#include "cmd/metrics.h"

#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/probe.h>
#include <ebb/trace.h>
#include <string.h>

#define SLOW_NS_MIN    EBB_NS_PER_MS /* what is quicker is not slow, however quick the others are */
#define SLOW_FORGET_NS (3600 * EBB_NS_PER_SECOND)
#define WRITE_SLOWEST  64

void timing_begin(struct timing *timing, uint64_t ready_ns) {
    timing->sampled = timing->sample_every > 0 && timing->until_sample-- <= 1;
    timing->ready_ns = ready_ns;
    timing->begin_ns = ready_ns > timing->end_ns ? ready_ns : timing->end_ns;
    timing->collections = ebb_collections();
    if (!timing->sampled)
        return;
    timing->until_sample = timing->sample_every;
    timing->begin_ns = ebb_clock_ns();
}

void timing_done(struct timing *timing, bool large) {
    timing->measured = timing->sampled || (timing->sample_every > 0 &&
                                           (large || timing->collections != ebb_collections()));
    if (timing->measured)
        timing->done_ns = ebb_clock_ns();
}

static struct ebb_metric *latency_of(enum request_verb verb) {
    static const enum request_form forms[REQUEST_VERBS] = {
#define EBB_COMMAND(id, name, form, ...) [REQUEST_##id] = REQUEST_FORM_##form,
#include "tbl/commands.def"
    };
    if (verb == REQUEST_NONE)
        return &ebb_metric_latency_other;
    switch (forms[verb]) {
    case REQUEST_FORM_KEYS:
        return &ebb_metric_latency_get;
    case REQUEST_FORM_STORE:
    case REQUEST_FORM_STORE_CAS:
        return &ebb_metric_latency_set;
    case REQUEST_FORM_DELETE:
        return &ebb_metric_latency_delete;
    case REQUEST_FORM_DELTA:
        return &ebb_metric_latency_incr;
    case REQUEST_FORM_TOUCH:
    case REQUEST_FORM_TOUCH_KEYS:
        return &ebb_metric_latency_touch;
    default:
        return &ebb_metric_latency_other;
    }
}

void timing_text(char out[TIMING_TEXT], const char *line, size_t length) {
    size_t used = 0;
    for (; used < length && used + 1 < TIMING_TEXT && line[used] != '\n' && line[used] != '\r';
         used++)
        out[used] = line[used] >= ' ' && line[used] < 0x7f ? line[used] : '?';
    memset(out + used, 0, TIMING_TEXT - used);
}

static uint64_t total_ns(const struct timing_slow *slow) {
    return slow->queue_ns + slow->store_ns + slow->send_ns;
}

/* Takes the place of the quickest remembered turn, if it was slower. */
static void remember(struct timing *timing, const struct timing_turn *turn) {
    struct timing_slow slow = {.unix_ns = ebb_clock_unix_ns(),
                               .queue_ns = timing->begin_ns - timing->ready_ns,
                               .store_ns = timing->done_ns - timing->begin_ns,
                               .send_ns = timing->end_ns - timing->done_ns,
                               .bytes = turn->bytes,
                               .requests = turn->requests};
    int least = 0;
    uint64_t least_ns = UINT64_MAX;
    for (int i = 0; i < TIMING_SLOWEST; i++) {
        const struct timing_slow *known = &timing->slowest[i].turn;
        uint64_t ns = slow.unix_ns - known->unix_ns > SLOW_FORGET_NS ? 0 : total_ns(known);
        if (ns < least_ns) {
            least = i;
            least_ns = ns;
        }
    }
    if (total_ns(&slow) <= least_ns)
        return;
    if (turn->text)
        timing_text(slow.text, turn->text, turn->length);
    ebb_tell(slow, slow.text, total_ns(&slow) / 1000, slow.requests, slow.bytes);
    _Atomic uint32_t *version = &timing->slowest[least].version;
    atomic_fetch_add(version, 1);
    timing->slowest[least].turn = slow;
    atomic_fetch_add(version, 1);
}

/* The turn as slices of this thread: the whole, and its two halves. */
static void trace_turn(const struct timing *timing, const struct timing_turn *turn) {
    char text[TIMING_TEXT] = "";
    if (turn->text)
        timing_text(text, turn->text, turn->length);
    ebb_trace_slice(EBB_TRACK_THREAD, turn->requests ? request_verb_name(turn->verb) : "nothing",
                    timing->begin_ns, timing->end_ns, text, "queue_ns",
                    timing->begin_ns - timing->ready_ns);
    ebb_trace_slice(EBB_TRACK_THREAD, "carry out", timing->begin_ns, timing->done_ns, NULL,
                    "requests", turn->requests);
    ebb_trace_slice(EBB_TRACK_THREAD, "send", timing->done_ns, timing->end_ns, NULL, "bytes",
                    turn->bytes);
}

void timing_end(struct timing *timing, const struct timing_turn *turn) {
    if (!timing->measured)
        return;
    timing->end_ns = ebb_clock_ns();
    uint64_t ns = timing->end_ns - timing->ready_ns;
    bool slow = ns >= SLOW_NS_MIN;
    EBB_PROBE4(request, turn->text, turn->length, turn->requests, ns);
    if (slow)
        remember(timing, turn);
    if ((slow || timing->sampled) && ebb_trace_on())
        trace_turn(timing, turn);
    if (timing->sampled && turn->requests > 0)
        ebb_observe_ns(latency_of(turn->verb), ns);
}

/* --- reading --- */

static bool copy_slow(struct timing *timing, int index, struct timing_slow *slow) {
    _Atomic uint32_t *version = &timing->slowest[index].version;
    uint32_t before = atomic_load(version);
    *slow = timing->slowest[index].turn;
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

void timing_write_slowest(struct timing *const *stations, int count, struct ebb_writer *writer) {
    struct timing_slow slowest[WRITE_SLOWEST], slow;
    int workers[WRITE_SLOWEST], found = 0;
    uint64_t now = ebb_clock_unix_ns();
    for (int worker = 0; worker < count; worker++)
        for (int i = 0; i < TIMING_SLOWEST; i++)
            if (copy_slow(stations[worker], i, &slow) && now - slow.unix_ns < SLOW_FORGET_NS)
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
