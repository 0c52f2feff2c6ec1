#!/usr/bin/env bash
# Guess: Keyv hides what memcached is particular about: a lifetime of 40 days is turned into what the server understands,
#        and clear() empties the namespace that it is called on.
# Real:  a value that is to live for 40 days is a miss at once, although set() resolves to true. clear() of one namespace
#        empties the whole server, that of others and of other programs too.
# Where: @keyv/memcache 2.0.2 with keyv 5.6.0 (npm), memcached 1.6.18. Milliseconds are divided by 1,000 and sent as they are,
#        and above 30 days the server takes the number for a moment of 1970; clear is flush_all.
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

unpack memcached=1.6.18-1+deb12u1
packages @keyv/memcache@2.0.2 keyv@5.6.0
serve
cat >probe.mjs <<'END'
import { Keyv } from 'keyv';
import { KeyvMemcache } from '@keyv/memcache';
const open = namespace => new Keyv({ store: new KeyvMemcache('127.0.0.1:' + process.argv[2]), namespace });
const mine = open('mine'), other = open('other');
await other.set('stays', 1);
const before = await other.get('stays');
const said = await mine.set('long', 1, 40 * 24 * 3600 * 1000), long = await mine.get('long');
const day = await mine.set('day', 1, 24 * 3600 * 1000) && await mine.get('day');
console.log(`set for a day, then get: ${day}; set for 40 days: ${said}, then get: ${long}`);
await mine.clear();
const after = await other.get('stays');
console.log(`a key of another namespace, before and after clear: ${before}, ${after}`);
process.exit(said === true && day === 1 && long === undefined && before === 1 && after === undefined ? 0 : 1);
END
node probe.mjs "$port" || { echo "the behaviour has changed" >&2; exit 1; }
