/* ports -- the file that tells which ports were bound.
 *
 * Who starts a memcached on any free port (-p -1) reads them from the file that
 * $MEMCACHED_PORT_FILENAME names, a line for each socket: "TCP INET: 40123", "UDP INET6: 40124".
 *
 * 1. It is written aside, as FILE.lck, and renamed: a reader sees all of it or none.
 * 2. What another start left in FILE.lck is not added to. */
#include "server.h"

#include <ebb/scope.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define VARIABLE   "MEMCACHED_PORT_FILENAME"
#define FILE_MODE  0644
#define ERROR_TEXT 256

static void write_line(int fd, void *context) {
    struct ebb_writer *writer = context;
    struct sockaddr_storage address = {0};
    socklen_t length = sizeof(address), type_size = sizeof(int);
    int type = 0;
    if (getsockname(fd, (struct sockaddr *)&address, &length) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &type_size) != 0)
        return;
    const char *transport = type == SOCK_DGRAM ? "UDP" : "TCP";
    const struct sockaddr_in *four = (const void *)&address;
    const struct sockaddr_in6 *six = (const void *)&address;
    if (address.ss_family == AF_INET)
        ebb_writef(writer, "%s INET: %u\n", transport, ntohs(four->sin_port));
    else if (address.ss_family == AF_INET6)
        ebb_writef(writer, "%s INET6: %u\n", transport, ntohs(six->sin6_port));
}

static enum ebb_err write_aside(const char *path, const char *aside) {
    struct ebb_scope *scope = ebb_scope_new("ports");
    ebb_fd handle;
    enum ebb_err error =
        ebb_fd_open(&handle, scope, aside, O_WRONLY | O_CREAT | O_TRUNC, FILE_MODE);
    if (error == EBB_OK) {
        struct ebb_fd_writer file;
        ebb_fd_writer_init(&file, ebb_fd_get(handle));
        conn_list_each_socket(write_line, &file.writer);
        if (file.failed || rename(aside, path) != 0)
            error = ebb_err_set(EBB_ERR_SYSTEM, "cannot write %s: %s", path, strerror(errno));
    }
    ebb_scope_close(scope);
    return error;
}

enum ebb_err ports_write(const char *user) {
    char aside[PATH_MAX], why[ERROR_TEXT];
    const char *path = getenv(VARIABLE);
    if (path == NULL || path[0] == '\0')
        return EBB_OK;
    if (snprintf(aside, sizeof(aside), "%s.lck", path) >= (int)sizeof(aside))
        return ebb_err_set(EBB_ERR_USAGE, "$" VARIABLE " has more than %d bytes", PATH_MAX);
    enum ebb_err error = ebb_files_as(user);
    if (error)
        return error;
    error = write_aside(path, aside);
    ebb_files_as_ourselves();
    if (error == EBB_OK)
        return EBB_OK;
    snprintf(why, sizeof(why), "%s", ebb_err_text());
    return ebb_err_set(error, "$" VARIABLE ": %s; give a path that the user of -u may write to",
                       why);
}
