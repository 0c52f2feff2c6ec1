-- resty -- a round of Lua's client in nginx (lua-nginx-memcached): /round?port=PORT answers "good", or what was wrong;
-- with &again=1 on the connection that was kept, after a restart of the server.
local memcached = require "nginx.memcached"
local cache = assert(memcached:new())

local function connect()
    cache:set_timeout(30000)
    assert(cache:connect("127.0.0.1", tonumber(ngx.var.arg_port)))
end

local function check(so, what)
    if not so then
        error("not so: " .. what, 0)
    end
end

local function says(word, wanted, ...)
    local done, answer = ...
    check(not done and answer == wanted, word .. " says " .. tostring(answer))
end

local function first()
    check(cache:set("a", "hello", 0, 7), "set")
    local value, flags = cache:get("a")
    check(value == "hello" and flags == "7", "get")
    value, flags, err = cache:get("absent")
    check(value == nil and err == nil, "a miss")
    says("add", "NOT_STORED", cache:add("a", "x"))
    check(cache:append("a", " you") and cache:prepend("a", "oh ") and cache:get("a") == "oh hello you", "append, prepend")
    check(cache:replace("a", {"r", {"s"}}) and cache:get("a") == "rs", "replace")
    says("replace", "NOT_STORED", cache:replace("absent", "r"))
    check(cache:delete("a"), "delete")
    says("delete", "NOT_FOUND", cache:delete("a"))

    local keys = {"absent", "a key / of %"}
    check(cache:set(keys[2], "escaped"), "a key that must be escaped")
    for i = 1, 200 do
        keys[#keys + 1] = "key-" .. i
        check(cache:set("key-" .. i, "value-" .. i), "set of many")
    end
    local found = cache:get(keys)
    check(found["absent"] == nil and found[keys[2]][1] == "escaped", "many got at once")
    for i = 1, 200 do
        check(found["key-" .. i][1] == "value-" .. i, "many got at once")
    end
    local unique
    value, flags, unique = cache:gets("key-1")
    check(cache:cas("key-1", "new", unique), "cas")
    says("cas", "EXISTS", cache:cas("key-1", "old", unique))
    check(cache:get("key-1") == "new", "cas of an old version")

    check(cache:set("n", "41") and cache:incr("n", 1) == "42" and cache:decr("n", 50) == "0", "counting")
    says("incr", "NOT_FOUND", cache:incr("absent", 1))

    check(cache:set("short", "1", 1) and cache:set("touched", "1", 1) and cache:touch("touched", 1000), "touch")
    local waited = 0
    while cache:get("short") do
        check(waited < 200, "expiry")
        waited = waited + 1
        ngx.sleep(0.05)
    end
    check(cache:get("touched") == "1", "touched")

    local large = string.rep("0123456789", 100000)
    check(cache:set("large", large) and cache:get("large") == large, "a large value")
    says("set", "SERVER_ERROR object too large for cache", cache:set("too large", string.rep("x", 2 * 1024 * 1024)))
    check(cache:get("key-2") == "value-2", "after too large a value")
    check(#cache:stats() > 20 and cache:version():sub(1, 3) == "1.6" and cache:verbosity(0), "stats, version, verbosity")
end

local function again()
    check(cache:get("touched") == nil and cache:set("again", "1") and cache:get("again") == "1", "a new server is empty")
    check(cache:flush_all() and cache:get("again") == nil, "flush")
end

local good, wrong = pcall(function()
    connect()
    if ngx.var.arg_again then
        again()
        check(cache:quit(), "quit")
    else
        first()
        check(cache:set_keepalive(0, 4), "set_keepalive")
    end
end)
ngx.say(good and "good" or wrong)
