# memcached_fast -- a round of Perl's Cache::Memcached::Fast, written in C: HOST PORT.
use strict;
use warnings;
use Cache::Memcached::Fast;

my ($host, $port) = @ARGV;
$| = 1;

sub check {
    my ($what, $so) = @_;
    die "not so: $what\n" unless $so;
}

sub cache { return Cache::Memcached::Fast->new({servers => ["$host:$port"], io_timeout => 10, max_size => 4 << 20}); }

# Asks again until it is so.
sub wait_until {
    my ($what, $so) = @_;
    for (1 .. 200) {
        return if $so->();
        select(undef, undef, undef, 0.05);
    }
    check($what, 0);
}

my $cache = cache();
check("set and get", $cache->set("a", "hello") && $cache->get("a") eq "hello");
check("a miss", !defined $cache->get("absent"));
check("a structure comes back", $cache->set("o", {x => [1, 2]}) && $cache->get("o")->{x}[1] == 2);
check("add", !$cache->add("a", "x") && $cache->add("b", "x"));
check("append, prepend", $cache->append("a", " you") && $cache->prepend("a", "oh ") && $cache->get("a") eq "oh hello you");
check("replace", $cache->replace("a", "r") && !$cache->replace("absent", "r"));
check("delete", $cache->delete("a") && !defined $cache->get("a"));

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

$cache->set("n", 41);
check("counting", $cache->incr("n") == 42 && $cache->decr("n", 50) == 0);
check("incr of an absent key", !$cache->incr("absent"));
check("touch", $cache->set("short", 1, 1) && $cache->set("touched", 1, 1) && $cache->touch("touched", 1000));
check("gat", $cache->set("gat", 5, 1) && $cache->gat(1000, "gat") == 5);
wait_until("expiry", sub { !defined $cache->get("short") });
check("touched", $cache->get("touched") == 1 && $cache->get("gat") == 5);

my $large = "0123456789" x 100_000;
check("a large value", $cache->set("large", $large) && $cache->get("large") eq $large);
check("too large a value", !$cache->set("large", $large x 2) && $cache->get("key-2") eq "value-2");
check("version", (values %{$cache->server_versions})[0] =~ /^1\.6/);

print "restart\n";
<STDIN>;
wait_until("after the restart", sub { $cache->set("again", 1) && $cache->get("again") });
check("a new server is empty", !defined $cache->get("touched"));

$cache->disconnect_all;
$cache = cache();
check("a new connection", $cache->get("again") == 1);
check("flush", $cache->flush_all && !defined $cache->get("again"));
