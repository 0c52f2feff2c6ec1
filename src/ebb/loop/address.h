/* address -- names of sockets, and listening at one; this folder only. */
#ifndef EBBI_LOOP_ADDRESS_H
#define EBBI_LOOP_ADDRESS_H

#include <ebb/err.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/types.h>

#define EBBI_ADDRESSES_MAX 16
#define EBBI_ADDRESS_TEXT  64 /* "[IPv6%scope]:port" and its NUL */

struct ebbi_addresses {
    int count;
    struct sockaddr_storage at[EBBI_ADDRESSES_MAX];
};

/* host: address or name, NULL or "" for every interface. More addresses than fit are left out.
 * Fails: EBB_ERR_USAGE. */
enum ebb_err ebbi_addresses_find(struct ebbi_addresses *addresses, const char *host,
                                 int port) EBB_MUST_CHECK;
void ebbi_addresses_set_port(struct ebbi_addresses *addresses, int port);
void ebbi_address_set_port(struct sockaddr_storage *address, int port);

/* "127.0.0.1:80", "[::1]:80", "unix". */
void ebbi_address_text(const struct sockaddr_storage *address, char *out, size_t size);
/* The port a bound socket got. */
int ebbi_port_of(int fd);

/* A nonblocking listening socket. name: the address as text. *error: errno of the failure. */
enum ebb_err ebbi_tcp_listen(const struct sockaddr_storage *address, const char *name, int backlog,
                             int *fd, int *error) EBB_MUST_CHECK;

/* A socket file that we made: removed only while it is still that very file. */
struct ebbi_unix_file {
    char path[1024]; /* absolute; "": none */
    dev_t device;
    ino_t inode;
};
enum ebb_err ebbi_unix_listen(const char *path, unsigned mode, int backlog, int *fd,
                              struct ebbi_unix_file *file) EBB_MUST_CHECK;
void ebbi_unix_file_remove(struct ebbi_unix_file *file);

#endif
