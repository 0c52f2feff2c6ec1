#!/usr/bin/env bash
# Guess: a client that is given two servers spreads the keys over them, so that two servers hold twice as much.
# Real:  python-binary-memcached's Client stores every value on both: two servers hold as much as one, and a write costs
#        two. npm's memcache-client takes a server by chance for each command: a value that was stored is missed by half of
#        the reads.
# Where: python3-binary-memcached 0.31.1 (Debian 0.31.1+dfsg1-2), memcache-client 1.0.5 (npm), memcached 1.6.18. Client is a
#        name for ReplicatingClient, kept for old programs; DistributedClient spreads. memcache-client calls its servers
#        redundant and expects somebody else to fill them alike.
set -euo pipefail
work=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill $server; rm -rf "$work"' EXIT
cd "$work"

unpack() { # the packages, and those of their needs that this system lacks, below root/
    apt-get install -s --no-install-recommends "$@" 2>apt.log |
        sed -nE 's/^Inst ([^ ]+) (\[[^]]*\] )?\(([^ ]+).*/\1=\3/p' | xargs apt-get download "$@" >apt.log 2>&1 ||
        { echo "not served any more (or apt-get update is due): $*" >&2; exit 2; }
    for package in *.deb; do dpkg -x "$package" root; done
    export LD_LIBRARY_PATH=$work/root/usr/lib/x86_64-linux-gnu
}
serve() { # memcached on a free port
    MEMCACHED_PORT_FILENAME=$work/port root/usr/bin/memcached -u "$(id -un)" -l 127.0.0.1 -p -1 -U 0 &
    server="$server $!"
    until grep -q INET port 2>/dev/null; do sleep 0.05; kill -0 $! || exit 2; done
    port=$(sed -n 's/^TCP INET: //p' port)
    rm port
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

unpack memcached=1.6.18-1+deb12u1 python3-binary-memcached=0.31.1+dfsg1-2
packages memcache-client@1.0.5
serve
first=$port
serve
second=$port
items() { for port in "$first" "$second"; do talk 'stats\r\n' | sed -n 's/^STAT curr_items //p'; done | tr '\n' ' '; }
cat >write.py <<'END'
import bmemcached, sys
client = bmemcached.Client(sys.argv[1:])
for key in range(100):
    client.set("key%d" % key, "value")
END
cat >read.js <<'END'
const { MemcacheClient } = require('memcache-client');
const servers = process.argv.slice(2).map(server => ({ server, maxConnections: 1 }));
(async () => {
  const client = new MemcacheClient({ server: { servers } });
  let missed = 0;
  for (let key = 0; key < 400; key++) {
    await client.set(`other${key}`, 'value');
    if ((await client.get(`other${key}`)) === undefined) missed++;
  }
  console.log(missed);
  process.exit();
})();
END
PYTHONPATH=root/usr/lib/python3/dist-packages /usr/bin/python3 write.py "127.0.0.1:$first" "127.0.0.1:$second"
held=$(items)
missed=$(node read.js "127.0.0.1:$first" "127.0.0.1:$second")
echo "python-binary-memcached, 100 keys: items on the two servers: $held"
echo "memcache-client, 400 keys, each set and then read: missed $missed"
if [ "$held" != "100 100 " ] || ((missed < 140 || missed > 260)); then
    echo "the behaviour has changed" >&2
    exit 1
fi
