/* admin -- the admin address itself; for daemon.c. */
#ifndef EBBI_DAEMON_ADMIN_H
#define EBBI_DAEMON_ADMIN_H

#include <ebb/admin.h>
#include <stdbool.h>

struct ebbi_address {
    char host[64];
    int port;
};

/* Reads "127.0.0.1:9150" or "[::1]:9150"; "localhost" is 127.0.0.1. Port 0: any free one. Unless
 * allow_remote, an address that is not loopback is refused. Fails: EBB_ERR_USAGE. */
enum ebb_err ebbi_admin_address(struct ebbi_address *address, const char *text,
                                bool allow_remote) EBB_MUST_CHECK;

enum ebb_err ebbi_admin_open(struct ebb_http **http, struct ebb_loop *loop,
                             const struct ebbi_address *address, const char *title) EBB_MUST_CHECK;

/* status.c: adds /debug/status. */
struct ebb_daemon_plan;
struct ebb_daemon;
void ebbi_status_add(struct ebb_daemon *daemon, const struct ebb_daemon_plan *plan);

/* page.c: adds the page at "/" and the files it is made of. */
void ebbi_page_add(void);
/* Headers that keep an HTML page from loading or obeying anything that is not ours. */
void ebbi_page_headers(struct ebb_http_request *request);

/* Adds the pages of heap_pages.c, fork_dump.c and resource_page.c. */
void ebbi_admin_add_debug_pages(void);
void ebbi_admin_add_resource_page(void); /* resource_page.c */
/* A page that answers GET and HEAD alone. help NULL: not listed. */
void ebbi_admin_page_read_only(const char *path, const char *help, const char *takes,
                               void (*fn)(struct ebb_http_request *request, void *arg));

/* What the request asks for: ?format=text|json|csv, else its Accept header, else text. A format
 * that does not exist is answered with a 400; then false. */
enum ebbi_format { EBBI_FORMAT_TEXT, EBBI_FORMAT_JSON, EBBI_FORMAT_CSV };
bool ebbi_format_of(struct ebb_http_request *request, enum ebbi_format *format);
const char *ebbi_format_type(enum ebbi_format format);

/* Where leak reports go: path gets the text, path.json the same as JSON; path: static, or NULL for
 * none. Tries, as user, whether both can be opened: better now than at the end. */
enum ebb_err ebbi_leak_report_start(const char *path, const char *user) EBB_MUST_CHECK;
/* Writes both, if there is a path. Fails: EBB_ERR_SYSTEM. */
enum ebb_err ebbi_leak_report_write(void) EBB_MUST_CHECK;
/* The census as log lines. */
void ebbi_census_tell(void);

#endif
