# Round -- what the rounds of Perl's clients have in common.
package Round;
use strict;
use warnings;
use Exporter 'import';
our @EXPORT = qw(check wait_until check_basics check_restart);

sub check {
    my ($what, $so) = @_;
    die "not so: $what\n" unless $so;
}

# Asks again until it is so.
sub wait_until {
    my ($what, $so) = @_;
    for (1 .. 200) {
        return if $so->();
        select(undef, undef, undef, 0.05);
    }
    check($what, 0);
}

sub check_basics {
    my ($cache) = @_;
    check("set and get", $cache->set("a", "hello") && $cache->get("a") eq "hello");
    check("a miss", !defined $cache->get("absent"));
    check("a structure comes back", $cache->set("o", {x => [1, 2]}) && $cache->get("o")->{x}[1] == 2);
    check("add", !$cache->add("a", "x") && $cache->add("b", "x"));
    check("append, prepend",
        $cache->append("a", " you") && $cache->prepend("a", "oh ") && $cache->get("a") eq "oh hello you");
    check("replace", $cache->replace("a", "r") && !$cache->replace("absent", "r"));
    check("delete", $cache->delete("a") && !defined $cache->get("a"));
    $cache->set("n", 41);
    check("counting", $cache->incr("n") == 42 && $cache->decr("n", 50) == 0);
    check("incr of an absent key", !$cache->incr("absent"));
    my $large = "0123456789" x 100_000;
    check("a large value", $cache->set("large", $large) && $cache->get("large") eq $large);
}

# The same client goes on with a new server, which has no key.
sub check_restart {
    my ($cache, $key) = @_;
    local $| = 1;
    print "restart\n";
    <STDIN>;
    wait_until("after the restart", sub { $cache->set("again", 1) && ($cache->get("again") // 0) == 1 });
    check("a new server is empty", !defined $cache->get($key));
}

1;
