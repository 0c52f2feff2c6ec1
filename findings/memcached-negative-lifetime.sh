#!/usr/bin/env bash
# Guess: a negative lifetime means "expired at once", as memcached's protocol says, whichever protocol carries it; the binary
#        protocol is only another way to write the same request.
# Real:  the same call with a lifetime of -1 stores an item that is gone at once when it travels as text, and an item that
#        lives until the year 2106 when it travels in binary. The reply is success in both.
# Where: memcached 1.6.18 (Debian 1.6.18-1+deb12u1) through libmemcached 1.1.4, so also through PHP's and Python's clients on
#        it. The field of the binary protocol has 32 bits without a sign: -1 becomes 4,294,967,295, a moment in 2106. An
#        application that expires items by -1 keeps them when binary is switched on.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server"; rm -rf "$work"' EXIT
cd "$work"

unpack() { # the packages, and those of their needs that this system lacks, below root/
    apt-get install -s --no-install-recommends "$@" 2>apt.log |
        sed -nE 's/^Inst ([^ ]+) (\[[^]]*\] )?\(([^ ]+).*/\1=\3/p' | xargs apt-get download "$@" >apt.log 2>&1 ||
        { echo "not served any more (or apt-get update is due): $*" >&2; exit 2; }
    for package in *.deb; do dpkg -x "$package" root; done
    export LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu
}
serve() { # memcached on a free port
    MEMCACHED_PORT_FILENAME=$work/port root/usr/bin/memcached -u "$(id -un)" -l 127.0.0.1 -p -1 -U 0 -vv 2>server.log &
    server=$!
    until grep -q INET port 2>/dev/null; do sleep 0.05; kill -0 "$server" || exit 2; done
    port=$(sed -n 's/^TCP INET: //p' port)
}

unpack memcached=1.6.18-1+deb12u1 libmemcached11=1.1.4-1 libmemcached-dev=1.1.4-1 libhashkit-dev=1.1.4-1
cat >probe.c <<'END'
#include <libmemcached/memcached.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
static int lives(unsigned short port, uint64_t binary) {
    memcached_st *client = memcached_create(NULL);
    uint32_t flags;
    size_t length;
    memcached_return_t stored, found;
    memcached_behavior_set(client, MEMCACHED_BEHAVIOR_BINARY_PROTOCOL, binary);
    memcached_server_add(client, "127.0.0.1", port);
    stored = memcached_set(client, "key", 3, "x", 1, (time_t)-1, 0);
    char *value = memcached_get(client, "key", 3, &length, &flags, &found);
    printf("%s: set with a lifetime of -1: %s; get: %s\n", binary ? "binary" : "text", memcached_strerror(client, stored),
           memcached_strerror(client, found));
    free(value), memcached_free(client);
    return stored != MEMCACHED_SUCCESS ? -1 : value != NULL;
}
int main(int count, char **words) {
    unsigned short port = (unsigned short)(count > 1 ? atoi(words[1]) : 0);
    printf("libmemcached %s\n", memcached_lib_version());
    return !(lives(port, 0) == 0 && lives(port, 1) == 1);
}
END
gcc -O1 -Iroot/usr/include probe.c -o probe root/usr/lib/x86_64-linux-gnu/libmemcached.so.11
serve
./probe "$port" || { echo "the behaviour has changed" >&2; exit 1; }
