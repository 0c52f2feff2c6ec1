#!/usr/bin/env bash
# Guess: node-cache with maxKeys refuses a key that would be one too many; a value of a key that is there can always be
#        replaced, and keys that have expired make room.
# Real:  once as many keys are there as maxKeys says, set throws for every key, those that are in the cache too. Expired keys
#        count, and keys() lists them, until somebody asks for one of them or the check of each ten minutes comes round.
# Where: node-cache 5.1.2 (npm). set compares the number of keys with the bound before it looks whether the key is one of
#        them; expiry is found out by get, has and the periodic check alone.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

packages() {
    command -v npm >npm.log || { echo "npm is needed" >&2; exit 2; }
    npm install --silent --no-audit --no-fund "$@" >npm.log 2>&1 || { echo "not served any more: $*" >&2; exit 2; }
}

packages node-cache@5.1.2
cat >probe.js <<'END'
const NodeCache = require('node-cache');
const attempt = (cache, key) => { try { cache.set(key, 'new'); return 'stored'; } catch (error) { return error.name; } };
const full = new NodeCache({ maxKeys: 2 });
full.set('a', 'old');
full.set('b', 'old');
const replaced = attempt(full, 'a'), kept = full.get('a');
const expiring = new NodeCache({ maxKeys: 2, stdTTL: 0.1 });
expiring.set('a', 'old');
expiring.set('b', 'old');
setTimeout(() => {
  const listed = expiring.keys().length, third = attempt(expiring, 'c'), asked = expiring.has('a') || expiring.has('b');
  const afterAsking = attempt(expiring, 'c');
  console.log(`node-cache ${require('node-cache/package.json').version}, maxKeys 2`);
  console.log(`set of a key that is there: ${replaced}, its value ${kept}`);
  console.log(`both expired: keys() lists ${listed}, set of a third: ${third}; after has() of the two: ${afterAsking}`);
  process.exit(replaced === 'ECACHEFULL' && kept === 'old' && listed === 2 && third === 'ECACHEFULL' && !asked &&
               afterAsking === 'stored' ? 0 : 1);
}, 300);
END
node probe.js || { echo "the behaviour has changed" >&2; exit 1; }
