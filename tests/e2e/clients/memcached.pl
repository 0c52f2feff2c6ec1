# memcached -- a round of Perl's Cache::Memcached: HOST PORT.
use strict;
use warnings;
use Cache::Memcached;

my ($host, $port) = @ARGV;

sub check {
    my ($what, $so) = @_;
    die "not so: $what\n" unless $so;
}

sub cache { return Cache::Memcached->new({servers => ["$host:$port"]}); }

my $cache = cache();
check("set and get", $cache->set("a", "hello") && $cache->get("a") eq "hello");
check("a miss", !defined $cache->get("absent"));
check("a structure comes back", $cache->set("o", {x => [1, 2]}) && $cache->get("o")->{x}[1] == 2);
check("add", !$cache->add("a", "x") && $cache->add("b", "x"));
check("append, prepend", $cache->append("a", " you") && $cache->prepend("a", "oh ") && $cache->get("a") eq "oh hello you");
check("replace", $cache->replace("a", "r") && !$cache->replace("absent", "r"));
check("delete", $cache->delete("a") && !defined $cache->get("a"));

my %many = map { ("key-$_" => "value-$_") } 0 .. 499;
$cache->set($_, $many{$_}) for keys %many;
my $found = $cache->get_multi(keys %many, "absent");
check("get_multi", keys %$found == 500 && $found->{"key-77"} eq "value-77");

$cache->set("n", 41);
check("counting", $cache->incr("n") == 42 && $cache->decr("n", 50) == 0);
check("incr of an absent key", !$cache->incr("absent"));

$cache->set("short", 1, 1);
for (1 .. 200) {
    last unless defined $cache->get("short");
    select(undef, undef, undef, 0.05);
}
check("expiry", !defined $cache->get("short"));

my $large = "0123456789" x 100_000;
check("a large value", $cache->set("large", $large) && $cache->get("large") eq $large);
check("stats", $cache->stats->{total}{curr_items} > 0);

$| = 1;
print "restart\n";
<STDIN>;
for (1 .. 200) {
    last if $cache->set("again", 1) && $cache->get("again");
    select(undef, undef, undef, 0.05);
}
check("after the restart", $cache->get("again") == 1 && !defined $cache->get("key-1"));

$cache->disconnect_all;
$cache = cache();
check("a new connection", $cache->get("again") == 1);
$cache->flush_all;
check("flush", !defined $cache->get("again"));
