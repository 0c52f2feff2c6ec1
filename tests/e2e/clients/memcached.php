<?php
// memcached -- a round of php-memcached: HOST PORT text|binary.
[, $host, $port, $protocol] = $argv;

function check(bool $so, string $what): void {
    if (!$so) {
        fwrite(STDERR, "not so: $what\n");
        exit(1);
    }
}

function connect(string $host, int $port, string $protocol): Memcached {
    $cache = new Memcached();
    $cache->setOption(Memcached::OPT_BINARY_PROTOCOL, $protocol === "binary");
    $cache->setOption(Memcached::OPT_COMPRESSION, false);
    check($cache->addServer($host, $port), "addServer");
    return $cache;
}

$cache = connect($host, (int)$port, $protocol);
check($cache->set("a", "hello"), "set");
check($cache->get("a") === "hello", "get");
check($cache->get("absent") === false && $cache->getResultCode() === Memcached::RES_NOTFOUND, "a miss");
check(!$cache->add("a", "x") && $cache->add("b", ["x" => [1, 2.5, null]]), "add");
check($cache->get("b") === ["x" => [1, 2.5, null]], "an array comes back");
check($cache->append("a", " you") && $cache->prepend("a", "oh ") && $cache->get("a") === "oh hello you", "append, prepend");
check($cache->replace("a", "r") && !$cache->replace("absent", "r"), "replace");
check($cache->delete("a") && !$cache->delete("a"), "delete");

$many = [];
for ($i = 0; $i < 500; $i++)
    $many["key-$i"] = "value-$i";
check($cache->setMulti($many), "setMulti");
check($cache->getMulti(array_merge(array_keys($many), ["absent"])) == $many, "getMulti");
$seen = $cache->get("key-1", null, Memcached::GET_EXTENDED);
check($cache->cas($seen["cas"], "key-1", "new") && !$cache->cas($seen["cas"], "key-1", "old"), "cas");
check($cache->getResultCode() === Memcached::RES_DATA_EXISTS && $cache->get("key-1") === "new", "cas of an old version");

check($cache->set("n", 41) && $cache->increment("n") === 42 && $cache->decrement("n", 50) === 0, "counting");
if ($protocol === "binary")
    check($cache->increment("made", 1, 100) === 100 && $cache->increment("made", 5, 100) === 105, "increment with an initial value");

check($cache->set("short", 1, 1) && $cache->set("touched", 1, 1) && $cache->touch("touched", 1000), "touch");
for ($waited = 0; $cache->get("short") !== false; $waited++) {
    check($waited < 200, "expiry");
    usleep(50000);
}
check($cache->get("touched") === 1, "touched");

$large = str_repeat("0123456789", 100000);
check($cache->set("large", $large) && $cache->get("large") === $large, "a large value");
check(!$cache->set("too large", str_repeat("x", 2 << 20)) && $cache->get("key-2") === "value-2", "too large a value");
check(count($cache->getStats()) === 1 && current($cache->getStats())["curr_items"] > 0, "stats");
check(strpos(current($cache->getVersion()), "1.6") === 0, "version");

print("restart\n");
fgets(STDIN);
for ($waited = 0; !$cache->set("again", 1); $waited++) {
    check($waited < 200, "after the restart");
    usleep(50000);
}
check($cache->get("again") === 1 && $cache->get("touched") === false, "a new server is empty");

$cache->quit();
$cache = connect($host, (int)$port, $protocol);
check($cache->get("again") === 1, "a new connection");
check($cache->flush() && $cache->get("again") === false, "flush");
