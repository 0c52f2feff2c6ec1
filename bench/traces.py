"""The traces of hit-ratio: four that are made here, from a fixed seed, and those of a folder.

A trace is CSV: ts,key,size,op,ttl (seconds, text, bytes of value, operation, seconds).
"""
import bisect
import csv
import glob
import os
import random
from itertools import accumulate

import benchlib as b

SEED = 20
OBJECTS = 60_000
REQUESTS = 400_000
PER_SECOND = 10_000 # requests in a second of trace time


class Zipf:
    """Ranks 0 … n-1, rank r with a weight of 1/(r+1)^alpha."""

    def __init__(self, rng, n, alpha):
        self.rng, self.sums = rng, list(accumulate((rank + 1) ** -alpha for rank in range(n)))

    def __call__(self):
        return bisect.bisect(self.sums, self.rng.random() * self.sums[-1])


def _size(rank):
    """Log-normal around 300 B, fixed for each object."""
    return max(8, min(65536, int(random.Random(rank).lognormvariate(5.7, 0.9))))


def _sizes(n):
    return [_size(rank) for rank in range(n)]


def zipf(rng):
    """Popularity by Zipf's law, gets only."""
    draw, sizes = Zipf(rng, OBJECTS, 0.9), _sizes(OBJECTS)
    for _ in range(REQUESTS):
        rank = draw()
        yield f"z{rank:015d}", sizes[rank], "get", 0


def scan(rng):
    """The same, and now and then somebody reads 5,000 objects once that nobody wants again."""
    draw, sizes, scanned = Zipf(rng, OBJECTS, 0.9), _sizes(OBJECTS), 0
    for number in range(REQUESTS):
        if number % 20_000 >= 15_000:
            yield f"s{scanned:015d}", sizes[scanned % OBJECTS], "get", 0
            scanned += 1
        else:
            rank = draw()
            yield f"z{rank:015d}", sizes[rank], "get", 0


def ttl(rng):
    """Half of the objects live for 2, 5 or 15 seconds, and become worthless before they are cold."""
    draw, sizes = Zipf(rng, OBJECTS, 0.8), _sizes(OBJECTS)
    lives = [random.Random(-rank).choice((0, 0, 0, 2, 5, 15)) for rank in range(OBJECTS)]
    for _ in range(REQUESTS):
        rank = draw()
        yield f"t{rank:015d}", sizes[rank], "get", lives[rank]


def deletes(rng):
    """A tenth of the operations delete what was used shortly before, a tenth write."""
    draw, sizes, recent = Zipf(rng, OBJECTS, 0.9), _sizes(OBJECTS), [0] * 1000
    for number in range(REQUESTS):
        dice = rng.random()
        rank = recent[rng.randrange(1000)] if dice < 0.1 else draw()
        recent[number % 1000] = rank
        yield f"d{rank:015d}", sizes[rank], "delete" if dice < 0.1 else "set" if dice < 0.2 else "get", 0


MADE = {"made-zipf": zipf, "made-scan": scan, "made-ttl": ttl, "made-deletes": deletes}


def make(name):
    """The path of a made trace; made once, then kept in build/bench."""
    path = b.out_path(f"{name}-{SEED}-{OBJECTS}-{REQUESTS}.csv")
    if not os.path.exists(path):
        with open(path + ".new", "w", newline="") as file:
            file.write("ts,key,size,op,ttl\n")
            for number, row in enumerate(MADE[name](random.Random(SEED))):
                file.write(f"{number / PER_SECOND:.4f},{','.join(map(str, row))}\n")
        os.rename(path + ".new", path)
    return path


def find(folder):
    """{name: path} of the made traces, and of the folder's when there is one."""
    found = {name: make(name) for name in MADE}
    for path in sorted(glob.glob(os.path.join(folder, "*.csv*")) if folder else []):
        name = os.path.basename(path).split(".csv")[0]
        if name != "simulated_miss_ratios":
            found[name] = path
    return found


def facts(path):
    """What has to be known of a trace before it is played."""
    sizes, records, first, last, short_ttl = {}, 0, None, 0.0, None
    with b.open_trace(path) as source:
        lines = iter(source)
        next(lines)
        for line in lines:
            ts, key, size, _, ttl_text = (line.decode() if isinstance(line, bytes) else line).rstrip("\n").split(",")
            sizes[key] = max(sizes.get(key, 0), int(size))
            records += 1
            last = float(ts)
            first = last if first is None else first
            if ttl_text not in ("", "0"):
                short_ttl = min(short_ttl or 1e18, float(ttl_text))
    span = last - (first or 0)
    return {"records": records, "objects": len(sizes), "footprint": sum(sizes.values()), "span_seconds": span,
            "ttl_matters": short_ttl is not None and short_ttl < span}


def anchors(folder):
    """{(trace, percent): {algorithm: (miss ratio, requests)}} from simulated_miss_ratios.csv, where there is one."""
    path = os.path.join(folder or "", "simulated_miss_ratios.csv")
    found = {}
    if folder and os.path.exists(path):
        with open(path, newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault((row["trace"], float(row["pct_of_footprint"])), {})[row["algo"]] = (
                    float(row["obj_miss_ratio"]), int(row["requests"]))
    return found
