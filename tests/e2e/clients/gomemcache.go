// gomemcache -- a round of Go's client: HOST PORT text.
package main

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/bradfitz/gomemcache/memcache"
)

func check(what string, so bool) {
	if !so {
		fmt.Fprintln(os.Stderr, "not so:", what)
		os.Exit(1)
	}
}

// Asks again until it is so.
func wait(what string, so func() bool) {
	for tries := 0; !so(); tries++ {
		check(what, tries < 200)
		time.Sleep(50 * time.Millisecond)
	}
}

func connect() *memcache.Client {
	cache := memcache.New(os.Args[1] + ":" + os.Args[2])
	cache.Timeout = 10 * time.Second
	return cache
}

func item(key, value string, seconds int32) *memcache.Item {
	return &memcache.Item{Key: key, Value: []byte(value), Flags: 7, Expiration: seconds}
}

func has(cache *memcache.Client, key, value string) bool {
	found, err := cache.Get(key)
	return err == nil && string(found.Value) == value && found.Flags == 7
}

func misses(cache *memcache.Client, key string) bool {
	_, err := cache.Get(key)
	return errors.Is(err, memcache.ErrCacheMiss)
}

func single(cache *memcache.Client) {
	check("set and get", cache.Set(item("a", "hello", 0)) == nil && has(cache, "a", "hello"))
	check("a miss", misses(cache, "absent"))
	check("add", cache.Add(item("a", "x", 0)) == memcache.ErrNotStored && cache.Add(item("b", "x", 0)) == nil)
	check("replace", cache.Replace(item("a", "r", 0)) == nil && has(cache, "a", "r"))
	check("replace of an absent key", cache.Replace(item("absent", "r", 0)) == memcache.ErrNotStored)
	check("delete", cache.Delete("a") == nil && cache.Delete("a") == memcache.ErrCacheMiss)
}

func manyAndCas(cache *memcache.Client) {
	keys := []string{"absent"}
	for i := 0; i < 500; i++ {
		keys = append(keys, fmt.Sprintf("key-%d", i))
		check("set", cache.Set(item(keys[i+1], keys[i+1], 0)) == nil)
	}
	found, err := cache.GetMulti(keys)
	check("GetMulti", err == nil && len(found) == 500 && string(found["key-77"].Value) == "key-77")
	seen, err := cache.Get("key-1")
	check("get for cas", err == nil)
	seen.Value = []byte("new")
	check("cas", cache.CompareAndSwap(seen) == nil && has(cache, "key-1", "new"))
	check("cas of an old version", cache.CompareAndSwap(seen) == memcache.ErrCASConflict)
	check("cas of a deleted key", cache.Delete("key-1") == nil && cache.CompareAndSwap(seen) != nil)
}

func counting(cache *memcache.Client) {
	check("a number", cache.Set(item("n", "41", 0)) == nil)
	number, err := cache.Increment("n", 1)
	check("increment", err == nil && number == 42)
	number, err = cache.Decrement("n", 50)
	check("decrement", err == nil && number == 0)
	_, err = cache.Increment("absent", 1)
	check("increment of an absent key", err == memcache.ErrCacheMiss)
}

func main() {
	cache := connect()
	single(cache)
	manyAndCas(cache)
	counting(cache)
	check("short lives", cache.Set(item("short", "1", 1)) == nil && cache.Set(item("touched", "1", 1)) == nil)
	check("touch", cache.Touch("touched", 1000) == nil && cache.Touch("absent", 1) == memcache.ErrCacheMiss)
	wait("expiry", func() bool { return misses(cache, "short") })
	check("touched", has(cache, "touched", "1"))
	large := strings.Repeat("0123456789", 100000)
	check("a large value", cache.Set(item("large", large, 0)) == nil && has(cache, "large", large))
	check("too large a value", cache.Set(item("large", large+large, 0)) != nil && has(cache, "key-2", "key-2"))

	fmt.Println("restart")
	bufio.NewReader(os.Stdin).ReadString('\n')
	wait("after the restart", func() bool { return cache.Set(item("again", "1", 0)) == nil && has(cache, "again", "1") })
	check("a new server is empty", misses(cache, "touched"))

	cache = connect()
	check("a new connection", has(cache, "again", "1"))
	check("flush", cache.FlushAll() == nil && misses(cache, "again"))
}
