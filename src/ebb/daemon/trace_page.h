/* trace_page -- the page /debug/trace; for admin.c. */
#ifndef EBBI_DAEMON_TRACE_PAGE_H
#define EBBI_DAEMON_TRACE_PAGE_H

#include <ebb/loop.h>

void ebbi_trace_page_add_page(struct ebb_loop *loop);
/* Lets go of a trace that runs. Before the loop is closed. */
void ebbi_trace_page_stop(void);

#endif
