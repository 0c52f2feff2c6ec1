/* guard -- the admin address has no passwords, so it must know a stranger in disguise.
 *
 * Whoever can connect may read. The disguise is the browser of somebody on this machine: any page
 * of the web can make it send requests here. Programs such as curl or Prometheus send none of the
 * headers that browsers add, and are not hindered.
 *
 * 1. Only this machine may POST: a POST does something.
 * 2. The Host is a literal address or "localhost". A page that had its own name point to this
 * machine (DNS rebinding) asks by that name. An address opened to others on purpose has names, so
 * it may be read by any of them.
 * 3. A browser says where a request comes from (Sec-Fetch-Site, and Origin with a POST). From
 * elsewhere it may only follow a link. */
#include "guard.h"

#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

#define HOST_MAX 64 /* longer is no literal address */

bool ebbi_guard_is_literal(const char *address) {
    struct in6_addr any;
    return inet_pton(AF_INET, address, &any) == 1 || inet_pton(AF_INET6, address, &any) == 1;
}

bool ebbi_guard_is_loopback(const char *address) {
    static const char mapped[] = "::ffff:";
    struct in_addr four;
    struct in6_addr six;
    if (strncasecmp(address, mapped, sizeof(mapped) - 1) == 0)
        address += sizeof(mapped) - 1;
    if (inet_pton(AF_INET, address, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    return inet_pton(AF_INET6, address, &six) == 1 && IN6_IS_ADDR_LOOPBACK(&six);
}

/* The host of "host", "host:port" or "[host]:port" is one that no stranger can own. */
static bool is_own_name(const char *text) {
    char host[HOST_MAX];
    size_t skip = text[0] == '[';
    size_t length = strcspn(text, skip ? "]" : ":");
    if (length - skip >= sizeof(host) || (skip && text[length] != ']'))
        return false;
    memcpy(host, text + skip, length - skip);
    host[length - skip] = 0;
    return ebbi_guard_is_literal(host) || strcasecmp(host, "localhost") == 0;
}

static bool is_same_origin(const char *origin, const char *host) {
    static const char scheme[] = "http://";
    return host && strncmp(origin, scheme, sizeof(scheme) - 1) == 0 &&
           strcasecmp(origin + sizeof(scheme) - 1, host) == 0;
}

static bool is_from_elsewhere(const char *fetch_site) {
    return fetch_site && strcmp(fetch_site, "same-origin") != 0 && strcmp(fetch_site, "none") != 0;
}

const char *ebbi_guard_refusal(const struct ebbi_ask *ask) {
    if (ask->post && !ebbi_guard_is_loopback(ask->peer))
        return "only this machine itself may do that";
    if ((ask->post || !ask->names_allowed) && ask->host && !is_own_name(ask->host))
        return "ask by a literal address or by localhost, not by another name";
    if (ask->post && ask->origin && !is_same_origin(ask->origin, ask->host))
        return "a page from elsewhere may not do that";
    bool navigates = !ask->post && ask->fetch_mode && strcmp(ask->fetch_mode, "navigate") == 0;
    if (is_from_elsewhere(ask->fetch_site) && !navigates)
        return "a page from elsewhere may only link to this one";
    return NULL;
}
