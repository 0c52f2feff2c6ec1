#!/usr/bin/env bash
# Guess: a lifetime of half a second is refused, or rounded up to a second; at worst it is cut to "expired at once".
# Real:  the value never expires. Clients in three languages take the fraction without a word, cut it to 0, and 0 is how
#        memcached is told "for ever". A short lock stays until it is evicted.
# Where: python3-memcache 1.59 and libcache-memcached-perl 1.30 (Debian 1.59-5 and 1.30-1.1), memjs 1.3.2 (npm), with
#        memcached 1.6.18. Dalli, PHP's two extensions and Cache::Memcached::Fast do the same; pymemcache, pylibmc and
#        npm's memcached report an error.
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

packages() {
    command -v npm >npm.log || { echo "npm is needed" >&2; exit 2; }
    npm install --silent --no-audit --no-fund "$@" >npm.log 2>&1 || { echo "not served any more: $*" >&2; exit 2; }
}
talk() { # sends the commands and prints the replies
    exec 3<>"/dev/tcp/127.0.0.1/$port" || return
    printf '%b' "$1" 'mn\r\n' >&3
    sed -u -e 's/\r$//' -e '/^MN$/Q' <&3
    exec 3>&-
}

unpack memcached=1.6.18-1+deb12u1 python3-memcache=1.59-5 libcache-memcached-perl=1.30-1.1
packages memjs@1.3.2
serve
at=127.0.0.1:$port
PYTHONPATH=root/usr/lib/python3/dist-packages /usr/bin/python3 -c \
    "import memcache; memcache.Client(['$at']).set('python', 'v', time=0.5)"
perl -Iroot/usr/share/perl5 -I"$(echo root/usr/lib/x86_64-linux-gnu/perl5/5.*)" -MCache::Memcached -e \
    "Cache::Memcached->new({servers => ['$at']})->set('perl', 'v', 0.5)"
node -e "require('memjs').Client.create('$at').set('node', 'v', {expires: 0.5}).then(() => process.exit())"
sleep 2
changed=0
talk 'version\r\n'
for client in python perl node; do
    seen=$(talk "mg $client v t\r\n" | tr '\n' ' ')
    echo "$client: set for half a second; two seconds later: $seen"
    [[ $seen == "VA 1 t-1 v " ]] || changed=1
done
((changed == 0)) || { echo "the behaviour has changed" >&2; exit 1; }
