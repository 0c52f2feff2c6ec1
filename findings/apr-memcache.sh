#!/usr/bin/env bash
# Guess: apr_memcache_incr of a value that is no number reports an error, replace of a missing key reports that it is not
#        found, and apr_strerror puts a miss in words as "not found".
# Real:  incr of "abc" returns APR_SUCCESS and a new value of 0; replace of a missing key returns EEXIST, "File exists"; a
#        miss is called "Could not find specified socket in poll list."; a counter past 2^32 comes back cut to 32 bits.
# Where: apr-util 1.6.3 (Debian 1.6.3-1+deb12u1) with memcached 1.6.18; Apache's mod_socache_memcache is built on it. incr takes
#        the server's line for a number unless it is NOT_FOUND, and CLIENT_ERROR reads as 0; NOT_STORED is EEXIST for add
#        and replace alike; APR_NOTFOUND was made for poll sets and has its words from there.
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

unpack memcached=1.6.18-1+deb12u1 libaprutil1=1.6.3-1+deb12u1 libaprutil1-dev=1.6.3-1+deb12u1 \
    libapr1=1.7.2-3+deb12u1 libapr1-dev=1.7.2-3+deb12u1
cat >probe.c <<'END'
#include <apr_general.h>
#include <apr_memcache.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static char *words(apr_status_t status) {
    static char text[100];
    return status == APR_SUCCESS ? "success" : apr_strerror(status, text, sizeof text);
}
int main(int count, char **arguments) {
    apr_pool_t *pool;
    apr_memcache_t *client;
    apr_memcache_server_t *server;
    char *value;
    apr_size_t length;
    apr_uint32_t number = 7, large = 7;
    if (count < 2 || apr_initialize() || apr_pool_create(&pool, NULL) || apr_memcache_create(pool, 1, 0, &client) ||
        apr_memcache_server_create(pool, "127.0.0.1", (apr_port_t)atoi(arguments[1]), 0, 1, 1, 60, &server) ||
        apr_memcache_add_server(client, server))
        return 2;
    apr_memcache_set(client, "word", "abc", 3, 0, 0);
    apr_memcache_set(client, "counter", "4294967295", 10, 0, 0);
    apr_status_t incr = apr_memcache_incr(client, "word", 1, &number);
    printf("incr of \"abc\" by 1: %s, new value %u\n", words(incr), number);
    apr_status_t past = apr_memcache_incr(client, "counter", 3, &large);
    printf("incr of 4294967295 by 3: %s, new value %u\n", words(past), large);
    apr_status_t replace = apr_memcache_replace(client, "missing", "x", 1, 0, 0);
    printf("replace of a missing key: %s\n", words(replace));
    apr_status_t get = apr_memcache_getp(client, pool, "missing", &value, &length, NULL);
    printf("get of a missing key: %s\n", words(get));
    return !(incr == APR_SUCCESS && number == 0 && past == APR_SUCCESS && large == 2 && APR_STATUS_IS_EEXIST(replace) &&
             get == APR_NOTFOUND && strstr(words(get), "poll list"));
}
END
lib=root/usr/lib/x86_64-linux-gnu
gcc -O1 -Iroot/usr/include/apr-1.0 probe.c -o probe $lib/libaprutil-1.so.0 $lib/libapr-1.so.0
serve
./probe "$port" || { echo "the behaviour has changed" >&2; exit 1; }
