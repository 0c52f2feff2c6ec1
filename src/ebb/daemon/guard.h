/* guard -- who may ask what of the admin address. */
#ifndef EBBI_DAEMON_GUARD_H
#define EBBI_DAEMON_GUARD_H

#include <stdbool.h>

/* A request as far as it matters here. Headers are NULL when absent. */
struct ebbi_ask {
    bool post;
    bool names_allowed; /* reading by any host name: the address is not loopback on purpose */
    const char *peer;   /* address of the other end */
    const char *host, *origin, *fetch_site, *fetch_mode;
};

/* NULL when it may go on, else the reason as a sentence for the one who asks. */
const char *ebbi_guard_refusal(const struct ebbi_ask *ask);
/* An address of this machine itself, IPv4 or IPv6. */
bool ebbi_guard_is_loopback(const char *address);
/* A literal IPv4 or IPv6 address. */
bool ebbi_guard_is_literal(const char *address);

#endif
