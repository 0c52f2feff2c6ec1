# dalli -- a round of ruby-dalli, which speaks binary: HOST PORT.
require "dalli"

def check(what, so)
  abort "not so: #{what}" unless so
end

Dalli.logger.level = Logger::FATAL # or it tells of the restart on stdout
host, port = ARGV
connect = -> { Dalli::Client.new("#{host}:#{port}", compress: false) }
cache = connect.call
check "set and get", cache.set("a", "hello") && cache.get("a") == "hello"
check "a miss", cache.get("absent").nil?
check "an object comes back", cache.set("o", { x: [1, 2.5, nil] }) && cache.get("o") == { x: [1, 2.5, nil] }
check "add", !cache.add("a", "x") && cache.add("b", "x")
cache.set("raw", "hello", 0, raw: true)
check "append, prepend", cache.append("raw", " you") && cache.prepend("raw", "oh ") && cache.get("raw", raw: true) == "oh hello you"
check "replace", cache.replace("a", "r") && cache.get("a") == "r" && [0, nil, false].include?(cache.replace("absent", "r"))
check "delete", cache.delete("a") && !cache.delete("a")

many = (0...500).to_h { |i| ["key-#{i}", "value-#{i}"] }
cache.multi { many.each { |key, value| cache.set(key, value) } }
check "get_multi", cache.get_multi(*many.keys, "absent") == many
check "cas", cache.cas("key-1") { |value| value + "!" } && cache.get("key-1") == "value-1!"
check "cas of an old version", cache.cas("key-1") { |value| connect.call.set("key-1", "other"); value } == false
check "cas of an absent key", cache.cas("absent") { |value| value }.nil?

check "counting", cache.incr("n", 1, 0, 41) == 41 && cache.incr("n", 1) == 42 && cache.decr("n", 50) == 0
check "incr of an absent key", cache.incr("absent", 1).nil?
check "touch", cache.set("short", 1, 1) && cache.set("touched", 1, 1) && cache.touch("touched", 1000)
check "gat", cache.set("gat", 1, 1) && cache.gat("gat", 1000) == 1
200.times { cache.get("short").nil? ? break : sleep(0.05) }
check "expiry", cache.get("short").nil? && cache.get("touched") == 1 && cache.get("gat") == 1

large = "0123456789" * 100_000
check "a large value", cache.set("large", large) && cache.get("large") == large
check "stats", cache.stats.values.first["curr_items"].to_i > 0
check "version", cache.version.values.first.start_with?("1.6")

$stdout.sync = true
puts "restart"
$stdin.gets
again = 200.times.any? do
  cache.set("again", 1) && cache.get("again") == 1
rescue Dalli::DalliError
  sleep(0.05) && false
end
check "after the restart", again
check "a new server is empty", cache.get("touched").nil?

cache.close
cache = connect.call
check "a new connection", cache.get("again") == 1
cache.flush_all
check "flush", cache.get("again").nil?
