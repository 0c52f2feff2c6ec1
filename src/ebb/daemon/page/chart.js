// chart -- one figure: a title, a key that is also the readout, a drawing, and the same as a table.
//
// A chart is drawn anew from the samples each time; nothing of it remembers. Values are null where
// nothing was measured: a line has a gap there.
//
// 1. Colours, strokes and fonts are the style sheet's, by class names. Here are only places.
// 2. What the drawing shows can be read without it: in the key, and in the table.

import { NONE } from "/units.js";

const SVG = "http://www.w3.org/2000/svg";
const TICK_SPACE = 34;      // pixels between grid lines, at least
const TIME_SPACE = 84;      // pixels between times, at least
const TOP = 18, BOTTOM = 22; // pixels around the drawing, for its texts
const GAP_SECONDS = 5;      // samples further apart are not joined
const TABLE_ROWS = 10;

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

function shape(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

/** Round steps: 1, 2 or 5 times a power of ten; of two for bytes. */
function linearTicks(top, room, binary) {
  const most = Math.max(2, Math.floor(room / TICK_SPACE));
  const base = binary ? 2 : 10, factors = binary ? [1, 2] : [1, 2, 5, 10];
  let step = base ** Math.floor(Math.log(top / most) / Math.log(base));
  step *= factors.find((factor) => top / (step * factor) <= most) || 1;
  const ticks = [];
  for (let at = step; at <= top * 1.0001; at += step) ticks.push(at);
  return ticks;
}

function logTicks(low, top) {
  const ticks = [];
  for (let at = 10 ** Math.ceil(Math.log10(low) - 1e-9); at <= top * 1.0001; at *= 10) ticks.push(at);
  return ticks;
}

const TIME_STEPS = [[10, 20, 60], [60, 120, 180, 300]]; // of a short span, of a long one

const SECONDS_SPAN_MAX = 120; // a span up to this is told in seconds

/** "−2 min": how long ago. */
function ago(seconds, span) {
  return span > SECONDS_SPAN_MAX ? `−${seconds / 60}\u202fmin` : `−${seconds}\u202fs`;
}

export class Chart {
  /** options: id, title, note, series: [{name, tone, value(sample)}], format, stacked, log, binary,
   *  whole (least top), limit(sample) with limitName, tick: format of the scale,
   *  ticks: places on the scale, else round ones; over: one more series, a line over a stack. */
  constructor(options, cursor) {
    Object.assign(this, options);
    this.cursor = cursor;
    this.values = new Map();
    this.key = element("ul", { class: "key" });
    this.rowsOf = this.stacked ? [...this.series].reverse() : [...this.series];
    if (this.over) this.rowsOf.unshift(this.over);
    for (const series of this.rowsOf) {
      const value = element("span", { class: "value" }, NONE);
      this.values.set(series, value);
      this.key.append(element("li", {}, element("span", { class: `swatch ${series.tone}`, "aria-hidden": "true" }),
                              element("span", { class: "what" }, series.name), value));
    }
    this.svg = shape("svg", { role: "img", "aria-labelledby": `${this.id}-title`, "aria-describedby": `${this.id}-now` });
    this.described = element("p", { id: `${this.id}-now`, class: "unseen" });
    this.plot = element("div", { class: "plot", tabindex: "0", role: "group",
                                 "aria-label": `${this.title}: left and right arrow keys read earlier values` }, this.svg);
    this.table = element("table");
    this.details = element("details", {}, element("summary", {}, "As a table"),
                           element("div", { class: "scroll" }, this.table));
    this.details.addEventListener("toggle", () => this.drawTable());
    this.figure = element("figure", { id: this.id, class: this.wide ? "chart wide" : "chart" },
      element("figcaption", {}, element("h3", { id: `${this.id}-title` }, this.title),
              element("p", { class: "note" }, this.note || "")),
      this.key, this.plot, this.described, this.details);
    this.plot.addEventListener("pointermove", (event) => this.point(event));
    this.plot.addEventListener("pointerleave", () => this.cursor.set(null));
    this.plot.addEventListener("blur", () => this.cursor.set(null));
    this.plot.addEventListener("keydown", (event) => this.press(event));
    new ResizeObserver(() => this.draw()).observe(this.plot);
  }

  /** samples: oldest first, each with its time in seconds; span: seconds shown; isLive: the last one is of now. */
  show(samples, span, isLive) {
    Object.assign(this, { samples, span, isLive });
    this.draw();
  }

  // --- the cursor ---

  point(event) {
    if (!this.samples || this.samples.length === 0) return;
    const box = this.plot.getBoundingClientRect();
    const time = this.end() - (1 - (event.clientX - box.left) / box.width) * this.span;
    let nearest = this.samples[0];
    for (const sample of this.samples)
      if (Math.abs(sample.time - time) < Math.abs(nearest.time - time)) nearest = sample;
    this.cursor.set(nearest);
  }

  press(event) {
    if (!this.samples || this.samples.length === 0) return;
    const last = this.samples.length - 1;
    const at = this.cursor.sample ? this.samples.indexOf(this.cursor.sample) : last + 1;
    const to = { ArrowLeft: at - 1, ArrowRight: at + 1, PageUp: at - 10, PageDown: at + 10, Home: 0, End: last }[event.key];
    if (event.key === "Escape") this.cursor.set(null);
    else if (to !== undefined) this.cursor.set(this.samples[Math.min(last, Math.max(0, to))], this.sentence.bind(this));
    else return;
    event.preventDefault();
  }

  sentence(sample) {
    return `${this.title}: ` + this.rowsOf.map((series) => `${series.name} ${this.format(series.value(sample))}`).join(", ");
  }

  // --- the drawing ---

  end() {
    return this.samples.length ? this.samples[this.samples.length - 1].time : 0;
  }

  /** What one sample adds up to, or the highest of its lines. */
  height(sample) {
    const values = this.series.map((series) => series.value(sample) || 0);
    const own = this.stacked ? values.reduce((sum, value) => sum + value, 0) : Math.max(...values);
    return Math.max(own, (this.over && this.over.value(sample)) || 0);
  }

  scale(room) {
    const highest = Math.max(this.least || 0, ...this.samples.map((sample) => this.height(sample)),
                             ...this.samples.map((sample) => (this.limit && this.limit(sample)) || 0));
    if (this.log) {
      const found = this.samples.flatMap((sample) => this.series.map((series) => series.value(sample))).filter((value) => value > 0);
      const low = 10 ** Math.floor(Math.log10(Math.min(...found, 1e-5))), top = Math.max(highest, low * 100) * 1.3;
      return { ticks: logTicks(low, top), y: (value) => TOP + room * (1 - Math.max(0, Math.log(value / low)) / Math.log(top / low)) };
    }
    const top = this.top || (highest || 1) * (this.limit ? 1.1 : 1.06);
    return { ticks: this.ticks || linearTicks(top, room, this.binary), y: (value) => TOP + room * (1 - value / top) };
  }

  draw() {
    const width = this.plot.clientWidth, full = this.plot.clientHeight;
    if (!this.samples || width === 0) return;
    const room = full - TOP - BOTTOM;
    const x = (time) => width * (1 - (this.end() - time) / this.span);
    const { ticks, y } = this.scale(room);
    this.svg.replaceChildren();
    this.svg.setAttribute("viewBox", `0 0 ${width} ${full}`);
    if (this.stacked) this.drawStack(x, y);
    const limit = this.limit && this.samples.length ? this.limit(this.samples[this.samples.length - 1]) : 0;
    this.drawGrid(width, room, ticks.filter((tick) => !limit || Math.abs(y(tick) - y(limit)) > 14), x, y);
    this.drawLines(x, y, [...(this.stacked ? [] : this.series), ...(this.over ? [this.over] : [])]);
    if (limit) this.drawLimit(width, limit, x, y);
    this.drawCursor(room, x, y);
    this.drawKey();
    this.drawTable();
  }

  /** Where the drawing ends: now, or the time of day of what came last. */
  endName() {
    return this.isLive ? "now" : new Date(this.end() * 1000).toLocaleTimeString();
  }

  drawGrid(width, room, ticks, x, y) {
    const base = TOP + room;
    this.svg.append(shape("line", { class: "base", x1: 0, x2: width, y1: base, y2: base }));
    for (const tick of ticks) {
      const at = Math.round(y(tick)) + 0.5;
      if (at > base - 10) continue;
      this.svg.append(shape("line", { class: "grid", x1: 0, x2: width, y1: at, y2: at }),
                      shape("text", { class: "tick", x: 0, y: at - 4 }, (this.tick || this.format)(tick)));
    }
    const step = TIME_STEPS[Number(this.span > SECONDS_SPAN_MAX)].find((seconds) => (seconds / this.span) * width >= TIME_SPACE) || this.span;
    for (let past = 0; past <= this.span; past += step) {
      const at = x(this.end() - past), edge = past === 0 ? "end" : at < 20 ? "start" : "middle";
      this.svg.append(shape("line", { class: "base", x1: at, x2: at, y1: base, y2: base + 4 }),
                      shape("text", { class: "tick", x: at, y: base + 17, "text-anchor": edge }, past === 0 ? this.endName() : ago(past, this.span)));
    }
  }

  /** The samples as runs without gaps in which every wanted value was measured. */
  runs(wanted) {
    const runs = [];
    let before = null;
    for (const sample of this.samples) {
      const ok = wanted(sample);
      if (ok && before && sample.time - before.time <= GAP_SECONDS) runs[runs.length - 1].push(sample);
      else if (ok) runs.push([sample]);
      before = ok ? sample : null;
    }
    return runs;
  }

  drawStack(x, y) {
    const hatch = shape("pattern", { id: "hatch", width: 5, height: 5, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
    hatch.append(shape("rect", { class: "hatch", width: 2.25, height: 5 }));
    this.svg.append(hatch);
    for (const run of this.runs((sample) => this.series.some((series) => series.value(sample) !== null))) {
      let below = run.map(() => 0);
      for (const series of this.series) {
        const above = run.map((sample, i) => below[i] + (series.value(sample) || 0));
        const up = run.map((sample, i) => `${x(sample.time).toFixed(1)},${y(above[i]).toFixed(1)}`);
        const back = run.map((sample, i) => `${x(sample.time).toFixed(1)},${y(below[i]).toFixed(1)}`).reverse();
        this.svg.append(shape("path", { class: `area ${series.tone}`, d: `M${up.join("L")}L${back.join("L")}Z` }));
        below = above;
      }
    }
  }

  drawLines(x, y, wanted) {
    for (const series of wanted) {
      const points = (run) => run.map((sample) => `${x(sample.time).toFixed(1)},${y(series.value(sample)).toFixed(1)}`);
      const measured = (sample) => series.value(sample) !== null && !(this.log && series.value(sample) <= 0);
      for (const run of this.runs(measured))
        this.svg.append(shape("path", { class: `line ${series.tone}`, d: "M" + points(run).join("L") + (run.length === 1 ? "h.1" : "") }));
    }
  }

  /** As it was at each time. The name of what it is now stands above what it would be hard to read on. */
  drawLimit(width, limit, x, y) {
    const highest = Math.max(...this.samples.map((sample) => this.height(sample)));
    for (const run of this.runs((sample) => this.limit(sample) > 0)) {
      const steps = run.map((sample) => `H${x(sample.time).toFixed(1)}V${y(this.limit(sample)).toFixed(1)}`);
      this.svg.append(shape("path", { class: "limit", d: `M${x(run[0].time).toFixed(1)},${y(this.limit(run[0])).toFixed(1)}${steps.join("")}` }));
    }
    this.svg.append(shape("text", { class: "limit-name", x: width, y: Math.min(y(limit), y(highest)) - 6, "text-anchor": "end" },
                          `${this.limitName} ${this.format(limit)}`));
  }

  drawCursor(room, x, y) {
    const sample = this.cursor.sample;
    if (!sample) return;
    const at = x(sample.time);
    this.svg.append(shape("line", { class: "cursor", x1: at, x2: at, y1: TOP, y2: TOP + room }));
    for (const series of this.stacked ? [] : this.series) {
      const value = series.value(sample);
      if (value !== null && !(this.log && value <= 0))
        this.svg.append(shape("circle", { class: `mark ${series.tone}`, cx: at, cy: y(value), r: 3.5 }));
    }
  }

  // --- the same in words ---

  drawKey() {
    const sample = this.cursor.sample || this.samples[this.samples.length - 1];
    if (!sample) return;
    for (const [series, value] of this.values) value.textContent = this.format(series.value(sample));
    this.described.textContent = this.sentence(sample);
  }

  drawTable() {
    if (!this.details.open || !this.samples) return;
    const head = element("tr", {}, element("th", { scope: "col" }, "ago"),
                         ...this.rowsOf.map((series) => element("th", { scope: "col" }, series.name)));
    const step = Math.max(1, Math.floor(this.samples.length / TABLE_ROWS));
    const rows = [];
    for (let i = this.samples.length - 1; i >= 0 && rows.length < TABLE_ROWS; i -= step) {
      const sample = this.samples[i];
      rows.push(element("tr", {}, element("th", { scope: "row" }, Math.round(this.end() - sample.time) + "\u202fs"),
                        ...this.rowsOf.map((series) => element("td", {}, this.format(series.value(sample))))));
    }
    this.table.replaceChildren(element("caption", { class: "unseen" }, this.title), element("thead", {}, head),
                               element("tbody", {}, ...rows));
  }
}
