/* datagram -- UDP sockets, bound as listeners are: one for each address that a name has, IPv6 ones
 * for IPv6 alone. On a machine without IPv6 "every interface" is what there is. */
#include <ebb/datagram.h>

#include "address.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>

static enum ebb_err refuse(int error, const char *name) {
    return ebb_err_set(error == EADDRINUSE ? EBB_ERR_BUSY : EBB_ERR_SYSTEM,
                       "cannot receive datagrams at %s: %s", name, strerror(error));
}

static enum ebb_err bind_one(ebb_fd *handle, struct ebb_scope *scope,
                             const struct sockaddr_storage *address, const char *name) {
    bool is_ipv6 = address->ss_family == AF_INET6;
    socklen_t length = is_ipv6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
    enum ebb_err error = ebb_fd_socket(handle, scope, address->ss_family, SOCK_DGRAM, name);
    if (error)
        return error;
    int on = 1, fd = ebb_fd_get(*handle);
    if (is_ipv6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
    if (bind(fd, (const struct sockaddr *)address, length) == 0)
        return EBB_OK;
    error = refuse(errno, name);
    ebb_fd_close(*handle);
    return error;
}

enum ebb_err ebb_datagram_open(ebb_fd *sockets, size_t *count, struct ebb_scope *scope,
                               const char *host, int port) {
    struct ebbi_addresses addresses;
    size_t room = *count;
    enum ebb_err first = EBB_OK, error = ebbi_addresses_find(&addresses, host, port);
    *count = 0;
    if (error)
        return error;
    for (int i = 0; i < addresses.count && *count < room; i++) {
        char name[EBBI_ADDRESS_TEXT];
        ebbi_address_text(&addresses.at[i], name, sizeof(name));
        error = bind_one(&sockets[*count], scope, &addresses.at[i], name);
        if (error == EBB_ERR_BUSY)
            return error;
        *count += error == EBB_OK;
        first = first ? first : error;
    }
    return *count > 0 ? EBB_OK : first;
}
