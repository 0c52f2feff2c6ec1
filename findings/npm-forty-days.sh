#!/usr/bin/env bash
# Guess: a cache in the process keeps a value for 40 days as it keeps it for one; a lifetime is a number of milliseconds.
# Real:  memory-cache and expiry-map drop the value after a millisecond. lru-cache with ttlAutopurge keeps it, and wakes up
#        the process hundreds of times a second for as long as the value lives: each value has a timer that fires at
#        once, finds that nothing has expired, and is set again.
# Where: memory-cache 0.2.0, expiry-map 2.0.0, lru-cache 11.5.3 (npm). Each hands the lifetime to setTimeout, which holds 31
#        bits, 24.8 days; Node turns more into 1 ms, with a warning on the standard error output. node-cache, which
#        only compares times, is not concerned.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

packages() {
    command -v npm >npm.log || { echo "npm is needed" >&2; exit 2; }
    npm install --silent --no-audit --no-fund "$@" >npm.log 2>&1 || { echo "not served any more: $*" >&2; exit 2; }
}

packages memory-cache@0.2.0 expiry-map@2.0.0 lru-cache@11.5.3
cat >probe.mjs <<'END'
import memory from 'memory-cache';
import expiryMap from 'expiry-map';
import { LRUCache } from 'lru-cache';
const sleep = milliseconds => new Promise(wake => setTimeout(wake, milliseconds));
const day = 24 * 3600 * 1000, seen = {}, real = setTimeout;
let timers = 0;
globalThis.setTimeout = (...given) => { timers++; return real(...given); };
for (const days of [20, 40]) {
  const [map, lru] = [new (expiryMap.default ?? expiryMap)(days * day), new LRUCache({ max: 9, ttl: days * day, ttlAutopurge: true })];
  memory.put('key', 'value', days * day);
  map.set('key', 'value');
  await sleep(100);
  seen[days] = { memory: memory.get('key') ?? 'gone', map: map.get('key') ?? 'gone' };
  memory.clear();
  map.clear();
  timers = 0;
  lru.set('key', 'value');
  await sleep(1000);
  Object.assign(seen[days], { lru: lru.get('key') ?? 'gone', timers: timers - 1 });
  lru.clear();
  console.log(`for ${days} days: memory-cache ${seen[days].memory}, expiry-map ${seen[days].map}, lru-cache ${seen[days].lru}` +
              ` and its timers set in a second: ${seen[days].timers}`);
}
const [short, long] = [seen[20], seen[40]];
process.exit(short.memory === 'value' && short.map === 'value' && short.lru === 'value' && short.timers < 10 &&
             long.memory === 'gone' && long.map === 'gone' && long.lru === 'value' && long.timers > 50 ? 0 : 1);
END
node probe.mjs 2>warnings || { echo "the behaviour has changed" >&2; exit 1; }
grep -c TimeoutOverflowWarning warnings | sed 's/$/ warnings of Node/'
