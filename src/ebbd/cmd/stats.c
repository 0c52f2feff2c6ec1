/* stats -- numbers for memcached's tools, by its names. Rows in ../tbl/stats.def.
 *
 * `stats` and `stats settings` have content; `stats items`, `slabs` and others that speak of slabs,
 * which ebbd does not have, are answered empty, so that tools which ask go on. An unknown word is
 * an ERROR, as from memcached. */
#include "cmd.h"

#include "metrics.h"

#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#define STAT_LINE_MAX 256 /* bytes */

#define SINCE(id) ebb_metric_since_reset(&ebb_metric_##id)

static void stat_text(struct cmd_turn *turn, const char *name, const char *text) {
    char line[STAT_LINE_MAX];
    int length = snprintf(line, sizeof(line), "STAT %s %s", name, text);
    size_t whole = (size_t)length < sizeof(line) ? (size_t)length : sizeof(line) - 1;
    reply_line(turn->reply, (struct ebb_span){line, whole});
}

static void stat_number(struct cmd_turn *turn, const char *name, uint64_t number) {
    char text[32];
    snprintf(text, sizeof(text), "%llu", (unsigned long long)number);
    stat_text(turn, name, text);
}

static void stat_time(struct cmd_turn *turn, const char *name, struct timeval time) {
    char text[48];
    snprintf(text, sizeof(text), "%ld.%06ld", (long)time.tv_sec, (long)time.tv_usec);
    stat_text(turn, name, text);
}

static void general(struct cmd_turn *turn) {
    struct store_stats store;
    store_stats_read(turn->shared->store, &store);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
#define EBB_STAT_COUNTER(name, sum)       stat_number(turn, name, sum);
#define EBB_STAT_NUMBER(name, expression) stat_number(turn, name, expression);
#define EBB_STAT_TEXT(name, text)         stat_text(turn, name, text);
#define EBB_STAT_TIME(name, time)         stat_time(turn, name, time);
#define EBB_STAT_VALUE(name, metric)                                                               \
    stat_number(turn, name, ebb_metric_value(&ebb_metric_##metric));
#define EBB_STAT_STORE(name, member) stat_number(turn, name, store.member);
#include "tbl/stats.def"
}

static void settings(struct cmd_turn *turn) {
    const struct settings *settings = turn->shared->settings;
    struct store_stats store;
    store_stats_read(turn->shared->store, &store);
    stat_number(turn, "maxbytes", store.limit_bytes);
    stat_number(turn, "maxconns", settings->connections);
    stat_number(turn, "tcpport", settings->port);
    stat_number(turn, "udpport", settings->udp_port);
    stat_text(turn, "inter", settings->listen.count > 0 ? settings->listen.value[0] : "NULL");
    stat_number(turn, "verbosity", settings->verbose);
    stat_text(turn, "evictions", settings->no_evictions ? "off" : "on");
    stat_text(turn, "domain_socket", settings->unix_socket ? settings->unix_socket : "NULL");
    stat_text(turn, "umask", settings->unix_mask);
    stat_text(turn, "shutdown_command", "no");
    stat_number(turn, "num_threads", settings->threads);
    stat_text(turn, "detail_enabled", "no");
    stat_text(turn, "cas_enabled", "yes");
    stat_number(turn, "tcp_backlog", settings->backlog);
    stat_text(turn, "binding_protocol",
              strcmp(settings->protocol, "auto") == 0 ? "auto-negotiate" : settings->protocol);
    stat_text(turn, "auth_enabled_sasl", "no");
    stat_text(turn, "auth_enabled_ascii", "no");
    stat_number(turn, "item_size_max", settings->item_size_max);
    stat_number(turn, "reqs_per_event", settings->requests_max);
    stat_number(turn, "idle_timeout", settings->idle_seconds_max);
    stat_text(turn, "maxconns_fast", settings->waits_at_limit ? "no" : "yes");
    stat_text(turn, "flush_enabled", settings->disable_flush ? "no" : "yes");
    stat_text(turn, "dump_enabled", "no");
    stat_text(turn, "hash_algorithm", "xxh3");
}

/* Words of memcached whose answer is empty here. */
static bool is_empty(struct ebb_span word) {
    static const char *const empty[] = {"items", "slabs", "sizes", "conns", "extstore"};
    for (size_t i = 0; i < sizeof(empty) / sizeof(empty[0]); i++)
        if (ebb_span_equal(word, ebb_span_of(empty[i])))
            return true;
    return false;
}

static void detail(struct cmd_turn *turn, const struct request *request) {
    struct ebb_span word = request->words > 2 ? request->word[2] : EBB_SPAN("");
    if (ebb_span_equal(word, EBB_SPAN("on")) || ebb_span_equal(word, EBB_SPAN("off")))
        reply_line(turn->reply, EBB_SPAN("OK"));
    else if (ebb_span_equal(word, EBB_SPAN("dump")))
        reply_line(turn->reply, EBB_SPAN("END"));
    else
        reply_line(turn->reply, EBB_SPAN("CLIENT_ERROR usage: stats detail on|off|dump"));
}

enum cmd_result cmd_stats(struct cmd_turn *turn, struct request *request, struct cmd_block *block) {
    (void)block;
    struct ebb_span word = request->words > 1 ? request->word[1] : EBB_SPAN("");
    if (ebb_span_equal(word, EBB_SPAN("reset"))) {
        ebb_metrics_reset();
        reply_line(turn->reply, EBB_SPAN("RESET"));
        return CMD_DONE;
    }
    if (ebb_span_equal(word, EBB_SPAN("detail"))) {
        detail(turn, request);
        return CMD_DONE;
    }
    if (word.length == 0)
        general(turn);
    else if (ebb_span_equal(word, EBB_SPAN("settings")))
        settings(turn);
    else if (!is_empty(word)) {
        bool dump = ebb_span_equal(word, EBB_SPAN("cachedump")) && request->words < 4;
        reply_line(turn->reply,
                   dump ? EBB_SPAN("CLIENT_ERROR bad command line") : EBB_SPAN("ERROR"));
        return CMD_DONE;
    }
    reply_line(turn->reply, EBB_SPAN("END"));
    return CMD_DONE;
}
