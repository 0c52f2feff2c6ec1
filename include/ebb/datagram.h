/* datagram -- bound UDP sockets. */
#ifndef EBB_DATAGRAM_H
#define EBB_DATAGRAM_H

#include <ebb/fd.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

/* Nonblocking sockets bound to host and port, one for each address found, in the scope. host:
 * address or name, NULL or "" for every interface (IPv6 and IPv4). count: in: room at sockets; out:
 * how many. Fails: EBB_ERR_BUSY names the address in use; EBB_ERR_SYSTEM; EBB_ERR_USAGE unknown
 * host; the scope then holds those made before. */
enum ebb_err ebb_datagram_open(ebb_fd *sockets, size_t *count, struct ebb_scope *scope,
                               const char *host, int port) EBB_MUST_CHECK;

__END_DECLS

#endif
