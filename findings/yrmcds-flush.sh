#!/usr/bin/env bash
# Guess: after flush_all has answered OK the cache is empty and ready: a value that is stored now is there for the next get.
#        So it is in memcached, in the same second and in the same packet too.
# Real:  until the next second begins, each set is answered STORED and is lost: get says END, now and for good. A warm-up that
#        begins right after flush_all leaves nothing behind.
# Where: yrmcds 1.1.9 (Debian 1.1.9-1+b2), a server of memcached's protocol. flush_all only notes that it was asked for; a
#        thread that comes round once a second removes every object that it finds then, however new.
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
}

unpack yrmcds=1.1.9-1+b2
cat >conf <<END
user = $(id -un)
group = $(id -gn)
virtual_ip = 127.0.0.1
port = $((20000 + RANDOM % 10000))
repl_port = $((30000 + RANDOM % 2000))
temp_dir = "$work"
log.threshold = info
log.file = "$work/log"
memory_limit = 64M
workers = 2
END
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu root/usr/sbin/yrmcdsd -f conf >log.err 2>&1 &
server=$!
port=$(sed -n 's/^port = //p' conf)
talk() { # sends the commands and prints the replies
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return
    printf '%b' "$1" 'quit\r\n' >&3
    timeout 2 cat <&3 | tr -d '\r' | tr '\n' ' ' || true
    exec 3>&-
}
until [[ $(talk 'version\r\n' 2>log.err || true) == VERSION* ]]; do sleep 0.05; kill -0 "$server" || exit 2; done
talk 'version\r\n' && echo
talk 'set key 0 0 3\r\nold\r\n' >log.err
for _ in 1 2 3; do # again if a second began just between flush_all and set
    at_once=$(talk 'flush_all\r\nset key 0 0 3\r\nnew\r\nget key\r\n')
    [ "$at_once" != "OK STORED END " ] || break
done
sleep 2
later=$(talk 'get key\r\n')
again=$(talk 'set key 0 0 3\r\nnew\r\nget key\r\n')
echo "flush_all, set, get: $at_once"
echo "two seconds later, get: $later"
echo "and set, get: $again"
[ "$at_once$later$again" = "OK STORED END END STORED VALUE key 0 3 new END " ] ||
    { echo "the behaviour has changed" >&2; exit 1; }
