# memcached -- a round of Perl's Cache::Memcached: HOST PORT.
use strict;
use warnings;
use Cache::Memcached;
use FindBin;
use lib $FindBin::Bin;
use Round;

my ($host, $port) = @ARGV;

sub cache { return Cache::Memcached->new({servers => ["$host:$port"]}); }

my $cache = cache();
check_basics($cache);

my %many = map { ("key-$_" => "value-$_") } 0 .. 499;
$cache->set($_, $many{$_}) for keys %many;
my $found = $cache->get_multi(keys %many, "absent");
check("get_multi", keys %$found == 500 && $found->{"key-77"} eq "value-77");

$cache->set("short", 1, 1);
wait_until("expiry", sub { !defined $cache->get("short") });

check("stats", $cache->stats->{total}{curr_items} > 0);

check_restart($cache, "key-1");

$cache->disconnect_all;
$cache = cache();
check("a new connection", $cache->get("again") == 1);
$cache->flush_all;
check("flush", !defined $cache->get("again"));
