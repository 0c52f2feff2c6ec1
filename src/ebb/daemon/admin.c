/* admin -- pages by path, in a small static table.
 *
 * The pages say what the daemon holds and where it was told to listen, so they are for people on
 * the same machine unless somebody allows more: an address that is not loopback is refused. */
#include "admin.h"

#include "alarms.h"
#include "guard.h"
#include "logs.h"
#include "trace_page.h"

#include <ebb/assert.h>
#include <ebb/metric.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES_MAX 64
#define PORT_MAX  65535

static struct page {
    const char *path, *help, *takes;
    void (*fn)(struct ebb_http_request *request, void *arg);
    void *arg;
    bool read_only;
} pages[PAGES_MAX];
static size_t pages_count;
static const char *index_title = "";
static bool names_allowed; /* see guard.h */

/* --- the address --- */

static enum ebb_err refuse_address(const char *text, const char *why) {
    return ebb_err_set(EBB_ERR_USAGE,
                       "admin address \"%s\": %s; allowed: HOST:PORT such as 127.0.0.1:9150 or "
                       "[::1]:9150",
                       text, why);
}

/* Copies the host of text without brackets; returns where the port begins, or NULL. */
static const char *split(const char *text, char *host, size_t size) {
    const char *colon = strrchr(text, ':');
    if (colon == NULL)
        return NULL;
    const char *end = colon;
    if (text[0] == '[') {
        if (end == text || end[-1] != ']')
            return NULL;
        text++;
        end--;
    } else if (memchr(text, ':', (size_t)(end - text))) {
        return NULL; /* IPv6 needs brackets: which colon is the port's? */
    }
    if (end <= text || (size_t)(end - text) >= size)
        return NULL;
    memcpy(host, text, (size_t)(end - text));
    host[end - text] = 0;
    return colon + 1;
}

enum ebb_err ebbi_admin_address(struct ebbi_address *address, const char *text, bool allow_remote) {
    const char *port = split(text, address->host, sizeof(address->host));
    if (port == NULL)
        return refuse_address(text, "host and port cannot be told apart");
    if (strcmp(address->host, "localhost") == 0)
        snprintf(address->host, sizeof(address->host), "127.0.0.1");
    if (!ebbi_guard_is_literal(address->host))
        return refuse_address(text, "the host is no literal address");
    size_t digits = strspn(port, "0123456789");
    unsigned long number = strtoul(port, NULL, 10);
    if (digits == 0 || digits > 5 || port[digits] != 0 || number > PORT_MAX)
        return refuse_address(text, "the port is no number from 0 to 65535");
    address->port = (int)number;
    if (!allow_remote && !ebbi_guard_is_loopback(address->host))
        return refuse_address(text, "not a loopback address, and the pages are not protected");
    return EBB_OK;
}

/* --- pages --- */

static void add(struct page page) {
    ebb_assert(pages_count < PAGES_MAX, "no room for page %s", page.path);
    pages[pages_count++] = page;
}

void ebb_admin_page(const char *path, const char *help, const char *takes,
                    void (*fn)(struct ebb_http_request *request, void *arg), void *arg) {
    add((struct page){.path = path, .help = help, .takes = takes, .fn = fn, .arg = arg});
}

void ebbi_admin_page_read_only(const char *path, const char *help, const char *takes,
                               void (*fn)(struct ebb_http_request *request, void *arg)) {
    add((struct page){.path = path, .help = help, .takes = takes, .fn = fn, .read_only = true});
}

/* Pages without help belong to another one and are not listed. */
static void write_index_json(struct ebb_writer *body, bool may_act) {
    ebb_writef(body, "{\"may_act\":%s,\"pages\":[", may_act ? "true" : "false");
    const char *between = "";
    for (size_t i = 0; i < pages_count; i++) {
        if (pages[i].help == NULL)
            continue;
        ebb_writef(body, "%s\n{\"path\":\"%s\",\"help\":\"", between, pages[i].path);
        ebb_write_json_string(body, pages[i].help, strlen(pages[i].help));
        ebb_writef(body, "\",\"post\":%s}", pages[i].read_only ? "false" : "true");
        between = ",";
    }
    ebb_write(body, "]}\n");
}

static void write_index_html(struct ebb_writer *body) {
    ebb_writef(body,
               "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
               "<meta name=\"viewport\" content=\"width=device-width\"><title>%s: pages</title>"
               "<link rel=\"icon\" href=\"/icon.svg\"><link rel=\"stylesheet\" "
               "href=\"/page.css\"></head>\n<body class=\"list\"><h1>%s: pages</h1>\n<dl>\n",
               index_title, index_title);
    for (size_t i = 0; i < pages_count; i++)
        if (pages[i].help)
            ebb_writef(body, "<dt><a href=\"%s\">%s</a></dt><dd>%s</dd>\n", pages[i].path,
                       pages[i].path, pages[i].help);
    ebb_write(body, "</dl></body></html>\n");
}

static void index_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    const char *format = ebb_http_query(request, "format");
    if (format && strcmp(format, "json") != 0) {
        ebb_write(ebb_http_body(request), "400: format is json, or left out\n");
        ebb_http_reply(request, 400, "text/plain; charset=utf-8");
        return;
    }
    if (format) {
        write_index_json(ebb_http_body(request), ebbi_guard_is_loopback(ebb_http_peer(request)));
        ebb_http_reply(request, 200, "application/json");
        return;
    }
    write_index_html(ebb_http_body(request));
    ebbi_page_headers(request);
    ebb_http_reply(request, 200, "text/html; charset=utf-8");
}

/* The weight that Accept gives to a type by name (RFC 9110, 12.4.2): 0 when it does not name it. */
static double weight_of(const char *accept, const char *type) {
    double highest = 0;
    for (const char *at = strcasestr(accept, type); at; at = strcasestr(at + 1, type)) {
        size_t length = strcspn(at, ",");
        const char *weight = strcasestr(at, "q=");
        double found = weight && weight < at + length ? strtod(weight + 2, NULL) : 1;
        highest = found > highest ? found : highest;
    }
    return highest;
}

static void metrics_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    /* Who can read OpenMetrics names it; all others get the older format. */
    const char *accept = ebb_http_header(request, "Accept");
    double openmetrics = accept ? weight_of(accept, "application/openmetrics-text") : 0;
    double older = accept ? weight_of(accept, "text/plain") : 0;
    if (openmetrics > 0 && openmetrics >= older) {
        ebb_metrics_write_openmetrics(ebb_http_body(request));
        ebb_http_reply(request, 200, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        return;
    }
    ebb_metrics_write_prometheus(ebb_http_body(request));
    ebb_http_reply(request, 200, "text/plain; version=0.0.4; charset=utf-8");
}

/* Answers and returns true when this one may not ask. */
static bool refused(struct ebb_http_request *request) {
    struct ebbi_ask ask = {
        .post = ebb_http_is_post(request),
        .names_allowed = names_allowed,
        .peer = ebb_http_peer(request),
        .host = ebb_http_header(request, "Host"),
        .origin = ebb_http_header(request, "Origin"),
        .fetch_site = ebb_http_header(request, "Sec-Fetch-Site"),
        .fetch_mode = ebb_http_header(request, "Sec-Fetch-Mode"),
    };
    const char *why = ebbi_guard_refusal(&ask);
    if (why == NULL)
        return false;
    ebb_writef(ebb_http_body(request), "403: %s\n", why);
    ebb_http_reply(request, 403, "text/plain; charset=utf-8");
    return true;
}

static void handle(struct ebb_http_request *request, void *arg) {
    (void)arg;
    if (refused(request))
        return;
    for (size_t i = 0; i < pages_count; i++) {
        if (strcmp(pages[i].path, ebb_http_path(request)) != 0)
            continue;
        const char *stranger = ebb_http_query_stranger(request, pages[i].takes);
        const char *repeated = stranger ? NULL : ebb_http_query_repeated(request);
        if (pages[i].read_only && ebb_http_is_post(request)) {
            ebb_writef(ebb_http_body(request), "405: %s is only to be read\n", pages[i].path);
            ebb_http_reply(request, 405, "text/plain; charset=utf-8");
        } else if (stranger) {
            ebb_writef(ebb_http_body(request), "400: %s knows no parameter %s; it takes %s\n",
                       pages[i].path, stranger, pages[i].takes ? pages[i].takes : "none");
            ebb_http_reply(request, 400, "text/plain; charset=utf-8");
        } else if (repeated) {
            ebb_writef(ebb_http_body(request), "400: the parameter %s is given more than once\n",
                       repeated);
            ebb_http_reply(request, 400, "text/plain; charset=utf-8");
        } else {
            pages[i].fn(request, pages[i].arg);
        }
        return;
    }
    ebb_write(ebb_http_body(request), "404: no such page; /debug lists them all\n");
    ebb_http_reply(request, 404, "text/plain; charset=utf-8");
}

static void add_first_pages(struct ebb_loop *loop) {
    if (pages_count > 0 && strcmp(pages[0].path, "/") == 0)
        return;
    /* What the program added before stands behind ours. */
    struct page earlier[PAGES_MAX];
    size_t earlier_count = pages_count;
    memcpy(earlier, pages, sizeof(pages));
    pages_count = 0;
    ebbi_page_add();
    ebbi_admin_page_read_only("/debug", "this list", "format", index_page);
    ebbi_admin_page_read_only("/metrics", "all metrics, for Prometheus", NULL, metrics_page);
    ebbi_alarms_add_pages();
    ebbi_admin_add_debug_pages();
    ebbi_logs_add_pages();
    ebbi_trace_page_add_page(loop);
    for (size_t i = 0; i < earlier_count; i++)
        add(earlier[i]);
}

enum ebb_err ebbi_admin_open(struct ebb_http **http, struct ebb_loop *loop,
                             const struct ebbi_address *address, const char *title) {
    index_title = title;
    names_allowed = !ebbi_guard_is_loopback(address->host);
    add_first_pages(loop);
    enum ebb_err error = ebb_http_open(http, loop, address->host, address->port);
    if (error == EBB_OK)
        ebb_http_handle(*http, handle, NULL);
    return error;
}
