<?php
// memcache -- a round of php-memcache: HOST PORT text|binary.
[, $host, $port, $protocol] = $argv;
ini_set("memcache.protocol", $protocol === "binary" ? "binary" : "ascii");

function check(bool $so, string $what): void {
    if (!$so) {
        fwrite(STDERR, "not so: $what\n");
        exit(1);
    }
}

function connect(string $host, int $port): MemcachePool {
    $cache = new MemcachePool();
    check($cache->connect($host, $port), "connect");
    return $cache;
}

$cache = connect($host, (int)$port);
check($cache->set("a", "hello", 0, 0) && $cache->get("a") === "hello", "set, get");
check($cache->get("absent") === false, "a miss");
check(!$cache->add("a", "x") && $cache->add("b", ["x" => [1, 2.5, null]]), "add");
check($cache->get("b") === ["x" => [1, 2.5, null]], "an array comes back");
check($cache->append("a", " you") && $cache->prepend("a", "oh ") && $cache->get("a") === "oh hello you", "append, prepend");
// In binary the client takes "not found" here for the end of the server.
check($cache->replace("a", "r") && ($protocol === "binary" || !$cache->replace("absent", "r")), "replace");
check($cache->delete("a") && !$cache->delete("a"), "delete");

$many = [];
for ($i = 0; $i < 500; $i++)
    $many["key-$i"] = "value-$i";
check($cache->set($many), "many set at once");
check($cache->get(array_merge(array_keys($many), ["absent"])) == $many, "many got at once");
check($cache->get("key-1", $flags, $cas) === "value-1" && $cas > 0, "get with its cas");
check($cache->cas("key-1", "new", 0, 0, $cas) && !$cache->cas("key-1", "old", 0, 0, $cas), "cas");
check($cache->get("key-1") === "new", "cas of an old version");
check($cache->delete(["key-1", "key-2"]) && $cache->get(["key-1", "key-2", "key-3"]) === ["key-3" => "value-3"], "many deleted at once");

check($cache->set("n", 41) && $cache->increment("n") === 42 && $cache->decrement("n", 50) === 0, "counting");
check($cache->increment("no number") === false, "counting what is absent");
if ($protocol === "binary")
    check($cache->increment("made", 1, 100) === 100 && $cache->increment("made", 5, 100) === 105, "increment with an initial value");

check($cache->set("short", 1, 0, 1) && $cache->set("long", 1, 0, 1000), "lifetimes");
for ($waited = 0; $cache->get("short") !== false; $waited++) {
    check($waited < 200, "expiry");
    usleep(50000);
}
check($cache->get("long") === 1, "not yet expired");

$large = str_repeat("0123456789", 100000);
check($cache->set("large", $large) && $cache->get("large") === $large, "a large value");
check($cache->set("packed", $large, MEMCACHE_COMPRESSED) && $cache->get("packed") === $large, "a compressed value");
check(strpos($cache->getVersion(), "1.6") === 0, "version");
if ($protocol === "text") // the client does not ask for stats in binary
    check($cache->getStats()["curr_items"] > 0, "stats");

print("restart\n");
fgets(STDIN);
$cache = connect($host, (int)$port);
check($cache->set("again", 1) && $cache->get("again") === 1 && $cache->get("long") === false, "a new server is empty");

$cache->close();
$cache = connect($host, (int)$port);
check($cache->get("again") === 1, "a new connection");
check($cache->flush() && $cache->get("again") === false, "flush");
