#!/usr/bin/env bash
# Guess: the lock of a session carries a token of its owner and an expiry, and is released by its owner alone; a session that
#        is opened with read_and_close, which never writes, needs no lock.
# Real:  the lock's value is 1 for everybody, and the end of a request deletes it, whoever holds it by then: a request that
#        outlives its lock frees that of the next one, and a third enters. From the command line the lock never expires, so
#        a script that is killed locks its session for ever. read_and_close takes the lock too, and fails when it is held.
# Where: php8.2-memcached 3.2.0 (Debian 3.2.0+2.2.0-4), PHP 8.2, memcached 1.6.18. sess_lock_expire is 0 unless it is set,
#        which stands for max_execution_time, which is 0 on the command line; taking is an add, releasing a plain delete.
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

php() {
    local modules
    modules=$(echo "$work/root/usr/lib/php/20"*)
    "$work/root/usr/bin/php8.2" -n -d extension_dir="$modules" -d extension=igbinary -d extension=msgpack \
        -d extension=memcached -d memcached.sess_lock_retries=1 "$@"
}
unpack memcached=1.6.18-1+deb12u1 php8.2-memcached=3.2.0+2.2.0-4 php8.2-igbinary php8.2-msgpack libmemcached11 php8.2-cli
serve
cat >probe.php <<'END'
<?php
ob_start();
[$at, $lock] = [$argv[1], 'memc.sess.key.lock.session'];
$cache = new Memcached;
$cache->addServer(...explode(':', $at));
$ask = function ($line) use ($at) {
    $server = stream_socket_client($at);
    fwrite($server, "$line\r\n");
    return str_replace("\r\n", ' ', fgets($server));
};
$open = function ($options = []) use ($at) {
    ini_set('session.save_handler', 'memcached');
    ini_set('session.save_path', $at);
    session_id('session');
    return session_start($options);
};
$open();
echo 'on the command line, lifetime of the lock (t-1: for ever): ', $ask("mg $lock t"), 'value: ', $cache->get($lock), "\n";
$_SESSION['seen'] = 1;
session_write_close();
$cache->set($lock, 'of another request');
echo 'locked by another: session_start says ', var_export(@$open(), true);
echo ', with read_and_close ', var_export(@$open(['read_and_close' => true]), true), "\n";
$cache->delete($lock);
$open();
$cache->set($lock, 'of another request');   // ours expired meanwhile, and another request took it
session_write_close();
echo 'lock of another request after the end of ours: ', var_export($cache->get($lock), true), "\n";
END
seen=$(php probe.php "127.0.0.1:$port")
php -r 'echo "PHP ", PHP_VERSION, ", memcached ", phpversion("memcached"), "\n";'
echo "$seen"
[ "$seen" = "on the command line, lifetime of the lock (t-1: for ever): HD t-1 value: 1
locked by another: session_start says false, with read_and_close false
lock of another request after the end of ours: false" ] || { echo "the behaviour has changed" >&2; exit 1; }
