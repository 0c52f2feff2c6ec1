#!/usr/bin/env bash
# Guess: increment of a counter that does not exist fails, or creates it with the amount; beyond 2^53 the result may be
#        inexact, as numbers of JavaScript are.
# Real:  it creates the counter with 0 and drops the amount: the first of five increments by 10 is lost, the total is 40. And
#        from 2^32 on the result that comes back is wrong, though the server counts rightly: 4,294,967,295 and 1 is 256.
# Where: memjs 1.3.2 (npm) with memcached 1.6.18. The request carries 0 as the initial value unless the option "initial" is
#        given; the reply's 64 bits are joined from two halves with a shift by 8 where 32 was meant. The value itself, read
#        by get, is right.
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
packages memjs@1.3.2
serve
cat >probe.js <<'END'
const client = require('memjs').Client.create('127.0.0.1:' + process.argv[2]);
const text = async key => String((await client.get(key)).value);
(async () => {
  console.log('memjs ' + require('memjs/package.json').version);
  let last;
  for (let i = 0; i < 5; i++) last = (await client.increment('visits', 10, {})).value;
  console.log(`five increments by 10 of a new counter: ${last}`);
  await client.set('bytes', '4294967295', {});
  const told = (await client.increment('bytes', 1, {})).value, held = await text('bytes');
  console.log(`4294967295 and 1: increment says ${told}, get says ${held}`);
  process.exit(last === 40 && told === 256 && held === '4294967296' ? 0 : 1);
})();
END
node probe.js "$port" || { echo "the behaviour has changed" >&2; exit 1; }
