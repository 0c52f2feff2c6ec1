#!/usr/bin/env bash
# Guess: memcexist, and memcached_exist below it, ask whether a key is there without touching anything: a get, a touch or a
#        meta get.
# Real:  the question is a write: an add of an empty value with an expiry in 1970. For a missing key the server stores the
#        item, answers STORED, which the tool takes for "missing", and drops it as expired. cmd_set and total_items grow,
#        cmd_get and the hit ratio do not move.
# Where: libmemcached 1.1.4 (Debian 1.1.4-1) with memcached 1.6.18; the binary protocol carries the same add. The expiry is
#        2,678,400, the seconds of 31 days, and a number above 30 days is a moment, not a span.
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

unpack memcached=1.6.18-1+deb12u1 libmemcached-tools=1.1.4-1 libmemcached11=1.1.4-1
serve
talk 'version\r\n'
root/usr/bin/memcexist --version | head -n 1
status=0
root/usr/bin/memcexist --servers="127.0.0.1:$port" missing || status=$?
stats=$(talk 'stats\r\n' | sed -nE 's/^STAT (cmd_get|cmd_set|cmd_touch|total_items) /\1=/p' | sort | tr '\n' ' ')
line=$(sed -nE 's/^<[0-9]+ (.* missing .*)/\1/p' server.log)
echo "memcexist of a missing key: exit status $status; the server read: $line; and counts: $stats"
[ "$status $line $stats" = "1 add missing 0 2678400 0 cmd_get=0 cmd_set=1 cmd_touch=0 total_items=1 " ] ||
    { echo "the behaviour has changed" >&2; exit 1; }
