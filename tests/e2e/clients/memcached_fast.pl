# memcached_fast -- a round of Perl's Cache::Memcached::Fast, written in C: HOST PORT.
use strict;
use warnings;
use Cache::Memcached::Fast;
use FindBin;
use lib $FindBin::Bin;
use Round;

my ($host, $port) = @ARGV;

sub cache { return Cache::Memcached::Fast->new({servers => ["$host:$port"], io_timeout => 10, max_size => 4 << 20}); }

my $cache = cache();
check_basics($cache);

my $stored = $cache->set_multi(map { ["key-$_", "value-$_"] } 0 .. 499);
check("set_multi", 500 == grep { $_ } values %$stored);
my $found = $cache->get_multi((map { "key-$_" } 0 .. 499), "absent");
check("get_multi", keys %$found == 500 && $found->{"key-77"} eq "value-77");
my $seen = $cache->gets("key-1");
check("cas", $seen->[1] eq "value-1" && $cache->cas("key-1", $seen->[0], "new") && $cache->get("key-1") eq "new");
check("cas of an old version", !$cache->cas("key-1", $seen->[0], "old") && $cache->get("key-1") eq "new");
$cache->set("quiet-$_", $_) for 0 .. 999;    # in void context: noreply
$cache->nowait_push;
check("noreply", $cache->get("quiet-999") == 999);

check("touch", $cache->set("short", 1, 1) && $cache->set("touched", 1, 1) && $cache->touch("touched", 1000));
check("gat", $cache->set("gat", 5, 1) && $cache->gat(1000, "gat") == 5);
wait_until("expiry", sub { !defined $cache->get("short") });
check("touched", $cache->get("touched") == 1 && $cache->get("gat") == 5);

my $large = "0123456789" x 100_000;
check("too large a value", !$cache->set("large", $large x 2) && $cache->get("key-2") eq "value-2");
check("version", (values %{$cache->server_versions})[0] =~ /^1\.6/);

check_restart($cache, "touched");

$cache->disconnect_all;
$cache = cache();
check("a new connection", $cache->get("again") == 1);
check("flush", $cache->flush_all && !defined $cache->get("again"));
