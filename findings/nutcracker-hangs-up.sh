#!/usr/bin/env bash
# Guess: when one of two servers is down a get of several keys returns the values of the other server, as clients that
#        talk to the servers themselves do; lifetimes pass through the proxy as they are, -1 too.
# Real:  the get is answered with SERVER_ERROR alone, the values of the living server are thrown away, and the proxy closes
#        the client's connection; a get of one key on the dead server is an error and closes nothing. set with a lifetime
#        of -1 is answered by closing the connection without a word, while touch with -1 passes.
# Where: nutcracker (twemproxy) 0.5.0 (Debian 0.5.0+dfsg-2) with memcached 1.6.18. A get of several keys is cut into one
#        request a server and is an error when any of them is; a storage command's numbers are read as digits only.
set -euo pipefail
work=$(mktemp -d)
server=
trap 'kill $server 2>/dev/null || true; rm -rf "$work"' EXIT
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

ask() { # sends the commands on a connection of their own; prints the replies, and whether it was closed
    exec 3<>"/dev/tcp/127.0.0.1/$proxy" || return
    printf '%b' "$1" >&3
    local line status=0
    while IFS= read -r -t 1 line <&3 || { status=$?; false; }; do printf '/%s' "${line%$'\r'}"; done
    ((status > 128)) || printf '/closed'
    exec 3>&-
}
unpack memcached=1.6.18-1+deb12u1 nutcracker=0.5.0+dfsg-2
serve
proxy=$((20000 + RANDOM % 10000))
cat >pool.yml <<END
pool:
  listen: 127.0.0.1:$proxy
  hash: fnv1a_64
  distribution: modula
  timeout: 2000
  servers:
   - 127.0.0.1:$port:1 living
   - 127.0.0.1:1:1 dead
END
root/usr/sbin/nutcracker -c pool.yml -o proxy.log -s $((proxy + 10000)) -a 127.0.0.1 &
server="$server $!"
until ask '' >replies 2>&1; do sleep 0.05; kill -0 $! || exit 2; done
sed -nE 's/.*(nutcracker-[0-9.]+) built.*/\1/p' proxy.log
living=
dead=
for key in a b c d e f g h i j k l; do
    case $(ask "set $key 0 0 1\r\nx\r\n") in /STORED*) living+="$key " ;; *) dead+="$key " ;; esac
done
read -r first second _ <<<"$living"
changed=0
while IFS='|' read -r commands expected; do
    seen=$(ask "$commands")
    echo "$commands -> $seen"
    [ "$seen" = "$expected" ] || changed=1
done <<END
get $first $second\\r\\n|/VALUE $first 0 1/x/VALUE $second 0 1/x/END
get ${dead%% *}\\r\\n|/SERVER_ERROR Connection refused
get $first ${dead%% *}\\r\\n|/SERVER_ERROR Connection refused/closed
set $first 0 -1 1\\r\\nx\\r\\n|/closed
touch $first -1\\r\\n|/TOUCHED
END
((changed == 0)) || { echo "the behaviour has changed" >&2; exit 1; }
