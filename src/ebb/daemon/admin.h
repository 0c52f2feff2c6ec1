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

/* Adds /debug/heap, /debug/resources and /debug/leaks (pages.c). */
void ebbi_admin_add_debug_pages(void);
void ebbi_admin_add_resource_page(void); /* resource_page.c */
/* A page that answers GET and HEAD alone. */
void ebbi_admin_page_read_only(const char *path, const char *help,
                               void (*fn)(struct ebb_http_request *request, void *arg));

/* The types with the most bytes first; at most so many. Returns how many. Shared with the census in
 * the log. */
struct ebb_type;
size_t ebbi_census(const struct ebb_type **types, size_t types_max);

#endif
