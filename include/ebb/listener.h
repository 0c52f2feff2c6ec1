/* listener -- sockets that accept: TCP or unix. */
#ifndef EBB_LISTENER_H
#define EBB_LISTENER_H

#include <ebb/loop.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_listener; /* OWNED; ebb_listener_close */

/* Told of each accepted connection: a nonblocking handle in the listener's scope; give it to a
 * scope of its own or close it. peer: text such as "127.0.0.1:4711" or "unix", valid during the
 * call. */
typedef void ebb_accept_fn(ebb_fd connection, const char *peer, void *arg);

/* host: address or name, NULL or "" for every interface (IPv6 and IPv4); port 0: any free one. One
 * listener per address found. Fails: EBB_ERR_BUSY names the address in use; EBB_ERR_SYSTEM;
 * EBB_ERR_USAGE unknown host. */
enum ebb_err ebb_listener_tcp(struct ebb_listener **listener, struct ebb_loop *loop,
                              const char *host, int port, int backlog, ebb_accept_fn *fn,
                              void *arg) EBB_MUST_CHECK;
/* A stale socket file at path is replaced; one that answers is EBB_ERR_BUSY. Removed again by
 * close. */
enum ebb_err ebb_listener_unix(struct ebb_listener **listener, struct ebb_loop *loop,
                               const char *path, unsigned mode, int backlog, ebb_accept_fn *fn,
                               void *arg) EBB_MUST_CHECK;
/* The next listening socket that the service manager handed over (<ebb/inventory.h>). Fails:
 * EBB_ERR_USAGE for one that cannot be accepted from (it is closed), EBB_ERR_STALE, EBB_ERR_LIMIT.
 */
enum ebb_err ebb_listener_inherited(struct ebb_listener **listener, struct ebb_loop *loop,
                                    ebb_accept_fn *fn, void *arg) EBB_MUST_CHECK;
/* Calls full(arg), the arg of the accept function, when descriptors have run out and collecting
 * brought none back: time to let go of something. */
void ebb_listener_when_full(struct ebb_listener *listener, void (*full)(void *arg));
/* Port of the first TCP address, after port 0 was asked for. */
int ebb_listener_port(const struct ebb_listener *listener);
/* The descriptors of its sockets go to out, at most `most` of them; returns how many. */
int ebb_listener_descriptors(const struct ebb_listener *listener, int *out, int most);
/* Stops and starts accepting; the kernel's backlog holds who comes meanwhile. */
void ebb_listener_pause(struct ebb_listener *listener, bool paused);
void ebb_listener_close(struct ebb_listener *listener);

__END_DECLS

#endif
