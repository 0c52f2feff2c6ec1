#!/usr/bin/env bash
# Guess: numbers are safe to share between languages: memcached keeps bytes, a client that does not know a flag returns the
#        bytes as a string, and at worst reports an error.
# Real:  an object that npm's memcached stored is the number 0 in PHP, and the result code says success; a number that PHP
#        stored, or that object, is a miss in Perl, without a word. The values are in the cache all the time.
# Where: php8.2-memcached 3.2.0 (Debian 3.2.0+2.2.0-4), libcache-memcached-perl 1.30 (1.30-1.1), memcached 2.2.2 (npm),
#        memcached 1.6.18. Each client has numbers of its own for types in an item's flags, and they overlap: 2 is JSON to
#        npm, a floating point number to PHP, "compressed" to Perl; 1 is an integer to PHP, "serialized" to Perl and Ruby.
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
php() {
    local modules
    modules=$(echo "$work/root/usr/lib/php/20"*)
    "$work/root/usr/bin/php8.2" -n -d extension_dir="$modules" -d extension=igbinary -d extension=msgpack \
        -d extension=memcached "$@"
}
unpack memcached=1.6.18-1+deb12u1 libcache-memcached-perl=1.30-1.1 php8.2-memcached=3.2.0+2.2.0-4 php8.2-igbinary \
    php8.2-msgpack libmemcached11 php8.2-cli
packages memcached@2.2.2
serve
cat >write.js <<'END'
const client = new (require('memcached'))(process.argv[2]);
client.set('object', { a: 1 }, 0, () => client.set('text', '5', 0, () => process.exit()));
END
cat >read-and-write.php <<'END'
<?php
$client = new Memcached;
$client->addServer('127.0.0.1', $argv[1]);
foreach (['text', 'object'] as $key)
    echo $key, ' ', var_export($client->get($key), true), ' (', strtolower($client->getResultMessage()), ') ';
$client->set('php-text', '5');
$client->set('php-number', 5);
END
cat >read.pl <<'END'
my $client = Cache::Memcached->new({servers => ["127.0.0.1:$ARGV[0]"]});
print "$_ ", $client->get($_) // "(a miss)", " " for "php-text", "php-number", "object";
END
node write.js "127.0.0.1:$port"
in_php=$(php read-and-write.php "$port")
in_perl=$(LD_LIBRARY_PATH='' perl -Iroot/usr/share/perl5 -I"$(echo root/usr/lib/x86_64-linux-gnu/perl5/5.*)" \
    -MCache::Memcached read.pl "$port")
printf 'written by npm, read by PHP: %s\nwritten by PHP and npm, read by Perl: %s\n' "$in_php" "$in_perl"
[ "$in_php$in_perl" = "text '5' (success) object 0.0 (success) php-text 5 php-number (a miss) object (a miss) " ] ||
    { echo "the behaviour has changed" >&2; exit 1; }
