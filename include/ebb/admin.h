/* admin -- pages at the admin address. /metrics and /healthz are there from the start; a program
 * adds its own. */
#ifndef EBB_ADMIN_H
#define EBB_ADMIN_H

#include <ebb/http.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

/* path: static text such as "/debug/heap". help: one line for the index page at "/debug".
 * takes: names of the query's parameters, a blank between two; NULL: none. A request with another
 * is answered with a 400 that says so. When: main
 * thread. */
void ebb_admin_page(const char *path, const char *help, const char *takes,
                    void (*fn)(struct ebb_http_request *request, void *arg), void *arg);

__END_DECLS

#endif
