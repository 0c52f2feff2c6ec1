#!/usr/bin/env bash
# Guess: an absolute expiry is a time_t: with a 64-bit one the year 2038 is a moment like others, and a moment that is
#        hundreds of years away means "not in my time".
# Real:  an item that is to expire one second after 2038-01-19 03:14:07 is stored and gone at once; so is one whose expiry is
#        some thousand years away, 99,999,999,999. An expiry of exactly 4,294,967,296 never comes: the item has none.
# Where: memcached 1.6.18 (Debian 1.6.18-1+deb12u1), text protocol. The number is read into 32 bits with a sign; what does
#        not fit is cut off, and what turns negative is long over. No error is reported. Clients that turn "ten years" into
#        a timestamp meet it from 2028 on.
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

unpack memcached=1.6.18-1+deb12u1
serve
talk 'version\r\n'
changed=0
while read -r expiry expected; do
    seen=$(talk "set key 0 $expiry 1\r\nx\r\nmg key t\r\n" | tr '\n' ' ')
    echo "set with expiry $expiry, then mg with the flag t: $seen"
    [[ $seen =~ ^STORED\ $expected\ $ ]] || changed=1
done <<'END'
2147483647 HD t[0-9]+
2147483648 EN
99999999999 EN
4294967296 HD t-1
END
((changed == 0)) || { echo "the behaviour has changed" >&2; exit 1; }
