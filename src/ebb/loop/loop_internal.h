/* loop_internal -- what the other files of this folder may know of a loop. */
#ifndef EBBI_LOOP_INTERNAL_H
#define EBBI_LOOP_INTERNAL_H

#include <ebb/loop.h>

struct event_base;

/* Owner: the loop. NULL once the loop is closed. */
struct event_base *ebbi_loop_base(struct ebb_loop *loop);

#endif
