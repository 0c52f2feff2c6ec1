#!/usr/bin/env bash
# Guess: to increment a value that is no number is the caller's error in both protocols: a clear code, and the connection
#        goes on.
# Real:  over text it is "CLIENT ERROR" and nothing else; over binary it is "UNKNOWN READ FAILURE", as when the server had
#        gone away, and the connection is closed: five such calls make five new connections.
# Where: libmemcached 1.1.4 (Debian 1.1.4-1) with memcached 1.6.18, so also PHP's memcached and pylibmc. The server's status 6,
#        "non-numeric value", is not among those that the library knows, and what it does not know it takes for a broken
#        stream. Alarms on read failures then point at the network.
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

talk() { # sends the commands and prints the replies
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return
    printf '%b' "$1" 'mn\r\n' >&3
    sed -u -e 's/\r$//' -e '/^MN$/Q' <&3
    exec 3>&-
}

unpack memcached=1.6.18-1+deb12u1 libmemcached11=1.1.4-1 libmemcached-dev=1.1.4-1 libhashkit-dev=1.1.4-1
cat >probe.c <<'END'
#include <libmemcached/memcached.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
int main(int count, char **words) {
    memcached_st *client = memcached_create(NULL);
    uint64_t value;
    if (count < 3) return 2;
    memcached_behavior_set(client, MEMCACHED_BEHAVIOR_BINARY_PROTOCOL, (uint64_t)atoi(words[2]));
    memcached_server_add(client, "127.0.0.1", (in_port_t)atoi(words[1]));
    memcached_set(client, "word", 4, "abc", 3, 0, 0);
    memcached_return_t code = MEMCACHED_SUCCESS;
    for (int i = 0; i < 5; i++) code = memcached_increment(client, "word", 4, 1, &value);
    printf("%s\n", memcached_strerror(client, code));
    memcached_set(client, "word", 4, "abc", 3, 0, 0);
    memcached_free(client);
    return 0;
}
END
gcc -O1 -Iroot/usr/include probe.c -o probe root/usr/lib/x86_64-linux-gnu/libmemcached.so.11
serve
connections() { talk 'stats\r\n' | sed -n 's/^STAT total_connections //p'; }
all=
for binary in 0 1; do
    before=$(connections)
    code=$(./probe "$port" $binary)
    opened=$(($(connections) - before - 1))
    echo "libmemcached 1.1.4, binary protocol $binary, five increments of \"abc\": $code; connections opened: $opened"
    all+="$code $opened "
done
[ "$all" = "CLIENT ERROR 1 UNKNOWN READ FAILURE 6 " ] || { echo "the behaviour has changed" >&2; exit 1; }
