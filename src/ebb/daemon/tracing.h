/* tracing -- the page /debug/trace; for admin.c. */
#ifndef EBBI_DAEMON_TRACING_H
#define EBBI_DAEMON_TRACING_H

#include <ebb/loop.h>

void ebbi_tracing_add_page(struct ebb_loop *loop);
/* Lets go of a trace that runs. Before the loop is closed. */
void ebbi_tracing_stop(void);

#endif
