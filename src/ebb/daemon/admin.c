/* admin -- pages by path, in a small static table.
 *
 * The pages say what the daemon holds and where it was told to listen, so they are for people on
 * the same machine unless somebody allows more: an address that is not loopback is refused. */
#include "admin.h"
#include "alarms.h"
#include "logs.h"
#include "tracing.h"

#include <arpa/inet.h>
#include <ebb/assert.h>
#include <ebb/metric.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGES_MAX 64
#define PORT_MAX  65535

static struct page {
    const char *path, *help;
    void (*fn)(struct ebb_http_request *request, void *arg);
    void *arg;
    bool read_only;
} pages[PAGES_MAX];
static size_t pages_count;
static const char *index_title = "";

/* --- the address --- */

static enum ebb_err refuse_address(const char *text, const char *why) {
    return ebb_err_set(EBB_ERR_USAGE,
                       "admin address \"%s\": %s; allowed: HOST:PORT such as 127.0.0.1:9150 or "
                       "[::1]:9150",
                       text, why);
}

static bool is_loopback(const char *host) {
    struct in_addr four;
    struct in6_addr six;
    if (inet_pton(AF_INET, host, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, host, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

static bool is_literal(const char *host) {
    struct in6_addr any;
    return inet_pton(AF_INET, host, &any) == 1 || inet_pton(AF_INET6, host, &any) == 1;
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
    if (!is_literal(address->host))
        return refuse_address(text, "the host is no literal address");
    size_t digits = strspn(port, "0123456789");
    unsigned long number = strtoul(port, NULL, 10);
    if (digits == 0 || digits > 5 || port[digits] != 0 || number > PORT_MAX)
        return refuse_address(text, "the port is no number from 0 to 65535");
    address->port = (int)number;
    if (!allow_remote && !is_loopback(address->host))
        return refuse_address(text, "not a loopback address, and the pages are not protected");
    return EBB_OK;
}

/* --- pages --- */

static void add(struct page page) {
    ebb_assert(pages_count < PAGES_MAX, "no room for page %s", page.path);
    pages[pages_count++] = page;
}

void ebb_admin_page(const char *path, const char *help,
                    void (*fn)(struct ebb_http_request *request, void *arg), void *arg) {
    add((struct page){.path = path, .help = help, .fn = fn, .arg = arg});
}

void ebbi_admin_page_read_only(const char *path, const char *help,
                               void (*fn)(struct ebb_http_request *request, void *arg)) {
    add((struct page){.path = path, .help = help, .fn = fn, .read_only = true});
}

static void index_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    struct ebb_writer *body = ebb_http_body(request);
    ebb_writef(
        body,
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>%s</title>"
        "<meta name=\"color-scheme\" content=\"light dark\"></head>\n<body><h1>%s</h1>\n<ul>\n",
        index_title, index_title);
    for (size_t i = 0; i < pages_count; i++)
        if (strcmp(pages[i].path, "/") != 0)
            ebb_writef(body, "<li><a href=\"%s\">%s</a> %s</li>\n", pages[i].path, pages[i].path,
                       pages[i].help);
    ebb_write(body, "</ul></body></html>\n");
    ebb_http_reply(request, 200, "text/html; charset=utf-8");
}

static void metrics_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    /* Who can read OpenMetrics says so; nobody names it who wants the older format more. */
    const char *accept = ebb_http_header(request, "Accept");
    if (accept && strstr(accept, "application/openmetrics-text")) {
        ebb_metrics_write_openmetrics(ebb_http_body(request));
        ebb_http_reply(request, 200, "application/openmetrics-text; version=1.0.0; charset=utf-8");
        return;
    }
    ebb_metrics_write_prometheus(ebb_http_body(request));
    ebb_http_reply(request, 200, "text/plain; version=0.0.4; charset=utf-8");
}

static void handle(struct ebb_http_request *request, void *arg) {
    (void)arg;
    for (size_t i = 0; i < pages_count; i++) {
        if (strcmp(pages[i].path, ebb_http_path(request)) != 0)
            continue;
        if (pages[i].read_only && ebb_http_is_post(request)) {
            ebb_writef(ebb_http_body(request), "405: %s is only to be read\n", pages[i].path);
            ebb_http_reply(request, 405, "text/plain; charset=utf-8");
        } else {
            pages[i].fn(request, pages[i].arg);
        }
        return;
    }
    ebb_write(ebb_http_body(request), "404: no such page; / lists them all\n");
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
    ebbi_admin_page_read_only("/", "this list", index_page);
    ebbi_admin_page_read_only("/metrics", "all metrics, for Prometheus", metrics_page);
    ebbi_alarms_add_pages();
    ebbi_admin_add_debug_pages();
    ebbi_logs_add_pages();
    ebbi_tracing_add_page(loop);
    for (size_t i = 0; i < earlier_count; i++)
        add(earlier[i]);
}

enum ebb_err ebbi_admin_open(struct ebb_http **http, struct ebb_loop *loop,
                             const struct ebbi_address *address, const char *title) {
    index_title = title;
    add_first_pages(loop);
    enum ebb_err error = ebb_http_open(http, loop, address->host, address->port);
    if (error == EBB_OK)
        ebb_http_handle(*http, handle, NULL);
    return error;
}
