// page -- asks /debug/status each second, keeps what it said, and shows it.
//
// Counters come as totals since the start; a rate or a percentile is the difference of two samples.
// Percentiles need more than one second's worth: they look back WINDOW_SECONDS.
//
// 1. A sample is made once, from the status and the samples before it, and never changed.
// 2. After a restart of the daemon (another pid, or a shorter life) the past is forgotten, as its totals mean nothing now,
//    and the daemon is met anew: what it offers, and its own heap trace.
// 3. What a daemon does not tell is not shown: the library's own figures stand for themselves.

import { Chart, element } from "/chart.js";
import { makeTables } from "/tables.js";
import * as units from "/units.js";

const INTERVAL_MS = 1000;
const TABLES_INTERVAL_MS = 5000;
const REPLY_MS_MAX = 5000;
const KEPT_SECONDS = 900;
const WINDOW_SECONDS = 10;
const SPAN_SECONDS_MIN = 60, SPAN_STEP_SECONDS = 30;

const $ = (id) => document.getElementById(id);
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

// --- samples ---

let samples = [];
let before = []; // from before the page saw the daemon: resident memory and pauses alone, out of the heap trace
let isMet = false; // whether this life of the daemon was asked what it offers, and for its heap trace

/** The difference of a total between two statuses, for a second; null without a past. */
function rate(now, past, total) {
  const after = total(now.status), before = past && total(past.status);
  if (!past || after === undefined || before === undefined || now.time <= past.time) return null;
  return Math.max(0, after - before) / (now.time - past.time);
}

const requestsOf = (...names) => (status) => status.requests && sum(names.map((name) => status.requests.by_command[name] || 0));
const READING = ["get", "gets", "mg", "bget", "gat", "gats"];
const WRITING = ["set", "add", "replace", "append", "prepend", "cas", "ms"];
const collectionsOf = (status) => sum(Object.values(status.collections.by_cause));

/** What the histogram counted since the past one. */
function bucketsSince(now, past, histograms) {
  const after = histograms(now.status), before = past ? histograms(past.status) : [];
  return after[0].buckets.map((_, i) => sum(after.map((histogram) => histogram.buckets[i])) -
                                        sum(before.map((histogram) => histogram.buckets[i])));
}

function quantile(buckets, bounds, q) {
  const total = sum(buckets);
  if (total === 0) return null;
  let below = 0;
  for (let i = 0; i < bounds.length; i++) {
    if (buckets[i] > 0 && below + buckets[i] >= q * total) {
      const low = i === 0 ? 0 : bounds[i - 1];
      return low + ((bounds[i] - low) * Math.max(0, q * total - below)) / buckets[i];
    }
    below += buckets[i];
  }
  return bounds[bounds.length - 1];
}

const pausesOf = (status) => [status.collections.pause];
const latenciesOf = (status) => Object.values(status.latency);

function measure(now, past, earlier) {
  const status = now.status, bounds = status.bucket_bounds_seconds;
  const per = (total) => rate(now, past, total);
  const memory = status.memory || status.heap;
  const pauses = bucketsSince(now, earlier, pausesOf);
  const pauseCount = earlier ? status.collections.pause.count - earlier.status.collections.pause.count : 0;
  Object.assign(now, {
    memory, cpu: per((s) => s.cpu_seconds), collections: rate(now, earlier, collectionsOf),
    gcShare: rate(now, earlier, (s) => s.collections.cpu_seconds) / rate(now, earlier, (s) => s.cpu_seconds),
    pauseMean: pauseCount > 0 ? (status.collections.pause.sum_seconds - earlier.status.collections.pause.sum_seconds) / pauseCount : null,
    pauseP99: quantile(pauses, bounds, 0.99),
  });
  if (status.requests) {
    const all = per((s) => s.requests.total), reads = per(requestsOf(...READING)), writes = per(requestsOf(...WRITING));
    const hits = per((s) => s.requests.get_hits_total), misses = per((s) => s.requests.get_misses_total);
    Object.assign(now, { all, reads, writes, others: all === null ? null : Math.max(0, all - reads - writes),
                         hitRatio: hits + misses > 0 ? hits / (hits + misses) : null });
  }
  if (status.latency) {
    const buckets = bucketsSince(now, earlier, latenciesOf);
    Object.assign(now, { p50: quantile(buckets, bounds, 0.5), p99: quantile(buckets, bounds, 0.99), p999: quantile(buckets, bounds, 0.999) });
  }
  if (status.cache)
    Object.assign(now, { evictedUnread: per((s) => s.cache.evicted_unfetched_total),
                         evictedRead: per((s) => s.cache.evicted_total - s.cache.evicted_unfetched_total),
                         expired: per((s) => s.cache.expired_total) });
  return now;
}

function add(status) {
  const last = samples[samples.length - 1];
  const isNewLife = last && (last.status.pid !== status.pid || status.uptime_seconds < last.status.uptime_seconds);
  if (isNewLife || (last && status.time <= last.time)) samples = before = [];
  if (isNewLife) isMet = false;
  const now = { time: status.time, status };
  const past = samples[samples.length - 1];
  const earlier = samples.find((sample) => sample.time >= now.time - WINDOW_SECONDS - 0.5);
  samples.push(measure(now, past, earlier));
  if (past) past.status = totalsOf(past.status);
  while (samples[0].time < now.time - KEPT_SECONDS) samples.shift();
}

/** The heap trace has a row for each collection and each second; here it becomes a sample for each second. */
function samplesOfTrace(rows) {
  const seconds = new Map();
  for (const row of rows) {
    const time = Math.floor(row.time);
    if (!seconds.has(time)) seconds.set(time, { time, memory: {}, pauses: [] });
    const sample = seconds.get(time);
    sample.memory.resident_bytes = row.rss_bytes;
    if (row.pause_ns > 0) sample.pauses.push(row.pause_ns / 1e9);
  }
  return [...seconds.values()].map(({ time, memory, pauses }) => ({
    time, memory, pauseMean: pauses.length ? sum(pauses) / pauses.length : null, pauseP99: pauses.length ? Math.max(...pauses) : null,
  }));
}

/** All there is, oldest first. */
function everything() {
  return [...before.filter((sample) => sample.time < samples[0].time - 0.5 && sample.time >= samples[samples.length - 1].time - KEPT_SECONDS),
          ...samples];
}

/** Of a status that is past, what a later rate may still need. */
function totalsOf({ pid, uptime_seconds, cpu_seconds, collections, requests, latency, cache, connections }) {
  return { pid, uptime_seconds, cpu_seconds, collections, requests, latency, cache, connections };
}

// --- charts ---

const of = (member) => (sample) => (sample[member] === undefined ? null : sample[member]);
const memory = (member) => (sample) => sample.memory[member] ?? null;
const RESIDENT = { name: "resident", tone: "resident", value: memory("resident_bytes") };

const CACHE_MEMORY = [
  { name: "live items", tone: "live", value: memory("segments_live_bytes") },
  { name: "dead or unused", tone: "dead", value: memory("segments_dead_bytes") },
  { name: "to be collected", tone: "dropped", value: memory("segments_dropped_bytes") },
  { name: "index", tone: "index", value: memory("index_bytes") },
  { name: "connections", tone: "conns", value: memory("connections_bytes") },
  { name: "other heap", tone: "other", value: memory("other_heap_bytes") },
  { name: "free heap", tone: "free", value: memory("free_heap_bytes") },
  { name: "unmanaged", tone: "unmanaged", value: memory("unmanaged_bytes") },
];
const HEAP_MEMORY = [
  { name: "live heap", tone: "live", value: memory("live_bytes") },
  { name: "to be collected", tone: "dropped", value: memory("dropped_bytes") },
  { name: "free heap", tone: "free", value: memory("free_bytes") },
  { name: "unmanaged", tone: "unmanaged", value: memory("unmanaged_bytes") },
];

const CHARTS = [
  { id: "memory", title: "Memory", note: "what the process holds, by what for", wide: true, stacked: true, binary: true,
    format: units.bytes, needs: (status) => status.memory, series: CACHE_MEMORY, over: RESIDENT,
    limit: (sample) => sample.memory.limit_bytes, limitName: "limit for items" },
  { id: "heap", title: "Memory", note: "what the process holds, by what for", wide: true, stacked: true, binary: true,
    format: units.bytes, needs: (status) => !status.memory, series: HEAP_MEMORY, over: RESIDENT },
  { id: "requests", title: "Requests", note: "per second", format: units.rate, tick: units.rateShort, least: 10, needs: (status) => status.requests,
    series: [{ name: "reading", tone: "a", value: of("reads") }, { name: "writing", tone: "b", value: of("writes") },
             { name: "other", tone: "c", value: of("others") }] },
  { id: "hits", title: "Hit ratio", note: "of keys read", format: units.percent, tick: units.percentShort, top: 1.08, ticks: [0.25, 0.5, 0.75, 1], needs: (status) => status.requests,
    series: [{ name: "found", tone: "a", value: of("hitRatio") }] },
  { id: "latency", title: "Latency", note: `from bytes seen to answer sent; last ${WINDOW_SECONDS} s`, format: units.seconds, log: true,
    needs: (status) => status.latency,
    series: [{ name: "p50", tone: "a", value: of("p50") }, { name: "p99", tone: "b", value: of("p99") },
             { name: "p99.9", tone: "c", value: of("p999") }] },
  { id: "pauses", title: "Pauses", note: `of the world for a collection; last ${WINDOW_SECONDS} s`, format: units.seconds, log: true,
    needs: () => true,
    series: [{ name: "mean", tone: "a", value: of("pauseMean") }, { name: "p99", tone: "b", value: of("pauseP99") }] },
  { id: "evictions", title: "Evictions", note: "items per second, by cause", format: units.rate, tick: units.rateShort, least: 10,
    needs: (status) => status.cache,
    series: [{ name: "never read", tone: "a", value: of("evictedUnread") }, { name: "read before", tone: "b", value: of("evictedRead") },
             { name: "expired", tone: "c", value: of("expired") }] },
  { id: "connections", title: "Connections", note: "open", format: units.whole, least: 8, needs: (status) => status.connections,
    series: [{ name: "open", tone: "a", value: (sample) => sample.status?.connections.open ?? null }] },
];

const cursor = {
  sample: null,
  set(sample, sentence) {
    if (sample === this.sample) return;
    this.sample = sample;
    $("cursor").textContent = sample && sentence ? sentence(sample) : "";
    for (const chart of charts) chart.draw();
  },
};

let charts = null;

function drawCharts() {
  const last = samples[samples.length - 1];
  if (charts === null) {
    charts = CHARTS.filter((plan) => plan.needs(last.status)).map((plan) => new Chart(plan, cursor));
    $("charts").append(...charts.map((chart) => chart.figure));
  }
  const all = everything();
  if (cursor.sample && !all.includes(cursor.sample)) cursor.set(null);
  // While the past is short, it is not shown in a corner of a long empty one.
  const wanted = Number(document.querySelector("#span input:checked").value);
  const known = Math.ceil((last.time - all[0].time) / SPAN_STEP_SECONDS) * SPAN_STEP_SECONDS;
  const span = Math.min(wanted, Math.max(SPAN_SECONDS_MIN, known));
  const shown = all.filter((sample) => sample.time >= last.time - span);
  for (const chart of charts) chart.show(shown, span, !paused && lostSince === null);
}

// --- the figures of now ---

const FIGURES = [
  ["Live items", (s) => s.status.cache && units.bytes(s.memory.segments_live_bytes),
    (s) => `${units.percent(s.memory.segments_live_bytes / s.memory.limit_bytes)} of ${units.bytes(s.memory.limit_bytes)} · ${units.count(s.status.cache.items)} items`],
  ["Resident", (s) => units.bytes(s.memory.resident_bytes),
    (s) => `${units.bytes(s.status.heap.size_bytes)} of it heap`],
  ["Requests", (s) => s.status.requests && units.rate(s.all), (s) => `${units.count(s.status.requests.total)} since start`],
  ["Hit ratio", (s) => s.status.requests && units.percent(s.hitRatio), (s) => (s.status.requests.get_hits_total + s.status.requests.get_misses_total > 0 ? `${units.percent(s.status.requests.hit_ratio)} since start` : "nothing was read yet")],
  ["Latency p99", (s) => s.status.latency && units.seconds(s.p99), (s) => (s.p50 ? `half within ${units.seconds(s.p50)}` : `no request in ${WINDOW_SECONDS} s`)],
  ["Pause p99", (s) => units.seconds(s.pauseP99), (s) => `${units.rate(s.collections)} collections`],
  ["Connections", (s) => s.status.connections && units.whole(s.status.connections.open),
    (s) => `of ${units.whole(s.status.connections.limit)} allowed`],
  ["CPU", (s) => units.percent(s.cpu), (s) => `${units.percent(s.gcShare)} of it collecting`],
];

const figureNodes = new Map();

function drawFigures() {
  const last = samples[samples.length - 1];
  for (const [name, value, more] of FIGURES) {
    const told = value(last);
    if (!told) continue;
    if (!figureNodes.has(name)) {
      const nodes = [element("dd", { class: "value" }), element("dd", { class: "more" })];
      figureNodes.set(name, nodes);
      $("figures").append(element("div", {}, element("dt", {}, name), ...nodes));
    }
    const [valueNode, moreNode] = figureNodes.get(name);
    valueNode.textContent = told;
    moreNode.textContent = more(last);
  }
}

function drawHead() {
  const { name, version, pid, uptime_seconds } = samples[samples.length - 1].status;
  document.title = `${name} on ${location.host}`;
  $("name").textContent = name;
  $("about").textContent = `${version} · ${location.host} · process ${pid} · up ${units.duration(uptime_seconds)}`;
}

function say(node, text) {
  if (node.textContent !== text) node.textContent = text; // a status that did not change is not read out again
}

function drawHealth(status) {
  const raised = (status.alarms || []).filter((alarm) => alarm.raised);
  $("health").dataset.state = raised.length ? "degraded" : "ok";
  $("figures").dataset.state = "ok";
  $("advice").hidden = raised.length === 0;
  if (raised.length === 0) say($("health-text"), "healthy");
  else if (raised.length === 1) say($("health-text"), `degraded: ${raised[0].what}`);
  else say($("health-text"), `degraded: ${raised.map((alarm) => alarm.alarm.replaceAll("_", " ")).join(", ")}`);
}

/** What is shown is of the past: it looks so, and the charts end at a time instead of now. */
function drawLost() {
  $("health").dataset.state = $("figures").dataset.state = "lost";
  $("advice").hidden = true;
  say($("health-text"), `no answer since ${new Date(lostSince).toLocaleTimeString()}`);
  if (samples.length) drawCharts();
}

// --- asking ---

let lostSince = null, paused = false, tables = [];

async function ask(path, options = {}) {
  const reply = await fetch(path, { signal: AbortSignal.timeout(options.milliseconds || REPLY_MS_MAX), ...options });
  if (!reply.ok) throw new Error((await reply.text()).trim() || `${path} said ${reply.status}`);
  return reply;
}

async function tick() {
  try {
    const status = await (await ask("/debug/status")).json();
    lostSince = null;
    add(status);
    if (!isMet) await meet();
    drawHealth(status);
    if (!paused) draw();
  } catch (error) {
    lostSince ||= Date.now();
    drawLost();
    if (!(error instanceof TypeError || error instanceof DOMException)) throw error; // ours, not the network's
  } finally {
    setTimeout(tick, INTERVAL_MS);
  }
}

function draw() {
  drawHead();
  drawFigures();
  drawCharts();
}

const loadTables = () => Promise.allSettled(tables.map((table) => table.load()));

async function tickTables() {
  if (!document.hidden && !paused && lostSince === null) await loadTables();
  setTimeout(tickTables, TABLES_INTERVAL_MS);
}

/** A daemon that was not seen before: what it offers, and what was before the page saw it. */
async function meet() {
  const { pages, may_act } = await (await ask("/debug?format=json")).json();
  const paths = new Map(pages.map((page) => [page.path, page]));
  for (const action of ACTIONS) {
    $(action.id).hidden = !may_act || !paths.has(action.path);
    action.method = paths.get(action.path)?.post ? "POST" : "GET";
  }
  if (paths.has("/debug/heap-trace"))
    before = samplesOfTrace((await (await ask("/debug/heap-trace?format=json")).json()).rows);
  if (tables.length === 0) tables = makeTables($("tables"), paths);
  isMet = true;
  loadTables();
}

// --- actions ---

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

const stamp = () => new Date().toISOString().slice(0, 19).replaceAll(":", "");

const ACTIONS = [
  { id: "collect", path: "/debug/collect", busy: "collecting",
    done: async (reply) => {
      const found = await reply.json();
      return `Collected in ${units.seconds(found.seconds)}: free heap ${units.bytes(found.free_bytes_before)} before, ` +
             `${units.bytes(found.free_bytes_after)} after`;
    } },
  { id: "snapshot", path: "/debug/heap.heapsnapshot", busy: "taking a snapshot", milliseconds: 120_000,
    done: async (reply) => {
      const blob = await reply.blob();
      save(blob, `${$("name").textContent}-${stamp()}.heapsnapshot`);
      return `Snapshot of ${units.bytes(blob.size)}: open it in the Memory panel of a browser's developer tools`;
    } },
  { id: "trace", path: "/debug/trace", query: "?seconds=5", busy: "tracing for 5 s", milliseconds: 60_000,
    done: async (reply) => {
      const blob = await reply.blob();
      save(blob, `${$("name").textContent}-${stamp()}.trace.json`);
      return `Trace of ${units.bytes(blob.size)}: open it in Perfetto`;
    } },
];

async function act(action) {
  const button = $(action.id);
  if (button.getAttribute("aria-disabled") === "true") return;
  button.setAttribute("aria-disabled", "true"); // keeps the focus, which disabled would lose
  say($("said"), action.busy + " …");
  try {
    const reply = await ask(action.path + (action.query || ""), { method: action.method, milliseconds: action.milliseconds });
    say($("said"), await action.done(reply));
    await loadTables();
  } catch (error) {
    say($("said"), `Not done: ${error.message.replace(/^\d+: /, "")}`);
  } finally {
    button.removeAttribute("aria-disabled");
  }
}

function pause() {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", paused);
  if (samples.length) (paused ? drawCharts : draw)();
}

$("pause").addEventListener("click", pause);
$("span").addEventListener("change", () => samples.length && drawCharts());
for (const action of ACTIONS) $(action.id).addEventListener("click", () => act(action));
tick();
tickTables();
