// tables -- the lists of the page: each is shown only where its own address answers with JSON.

import { element } from "/chart.js";
import { bytes, count, duration, seconds, whole } from "/units.js";

const ROWS_MAX = 16;

const text = (value) => (value === null || value === undefined ? "" : String(value));

// A column: heading, what it shows of a row, and how; numbers are set to the right. whole: what is read row by row, so that
// a narrow page stacks its columns instead of letting them be scrolled to.
const TABLES = [
  { id: "alarms", title: "Alarms", path: "/debug/alarms", query: "", list: "alarms", whole: true, quiet: "conditions are watched and quiet",
    columns: [
      ["Alarm", (row) => row.alarm],
      ["State", (row) => (row.raised ? "raised" : row.times > 0 ? `over, raised ${row.times === 1 ? "once" : whole(row.times) + " times"}` : "quiet")],
      ["Value", (row) => row.value, number],
      ["Threshold", (row) => row.threshold, number],
      ["Within", (row) => (row.window_seconds > 0 ? row.window_seconds : null), duration],
      ["What it watches", (row) => row.what],
      ["What to do", (row) => row.advice],
    ],
    shown: (row) => row.raised || row.times > 0, loud: (row) => row.raised },
  { id: "leaks", title: "Leaks", path: "/debug/leaks", query: "?format=json", list: "sites", whole: true,
    empty: "Nothing was lost: every owned object was released.",
    columns: [
      ["Type", (row) => row.type],
      ["Objects", (row) => row.objects, whole],
      ["Bytes", (row) => row.bytes, bytes],
      ["Oldest", (row) => row.age_seconds_max, duration],
      ["Excused", (row) => (row.suppressed ? "yes" : "no")],
      ["Where it was made", (row) => [].concat(row.stack || []).slice(0, 3).join(" < ")],
    ],
    loud: (row) => !row.suppressed },
  { id: "census", title: "Heap by type", path: "/debug/heap", query: "?format=json", list: "types",
    note: "as of the latest collection", empty: "Nothing was allocated.",
    columns: [
      ["Type", (row) => row.type],
      ["Objects", (row) => row.objects, whole],
      ["Bytes", (row) => row.bytes, bytes],
      ["Allocated", (row) => row.allocated_bytes, bytes],
      ["Leaked", (row) => row.leaked_objects, whole],
      ["Lifetime", (row) => row.lifetime],
      ["What it is", (row) => row.what],
    ],
    order: (row) => -row.bytes },
  { id: "resources", title: "Resources", path: "/debug/resources", query: "?format=json", list: "resources",
    note: "what is open, and who owns it", empty: "Nothing is open.",
    columns: [
      ["Class", (row) => row.class],
      ["Id", (row) => (row.id >= 0 ? row.id : ""), text],
      ["Owner", (row) => row.owner],
      ["Age", (row) => row.age_seconds, duration],
      ["Bytes", (row) => row.bytes || "", (value) => (value ? bytes(value) : "")],
      ["Peer or path", (row) => row.what],
      ["Opened by", (row) => row.opened_by],
    ] },
  { id: "slow", title: "Slowest requests", path: "/debug/slow", query: "", list: "slowest",
    note: "of those timed in the last hour, 1 ms and more", rows: 8, empty: "None took 1 ms.",
    columns: [
      ["Request", (row) => row.request],
      ["In all", (row) => row.seconds, seconds],
      ["Waiting", (row) => row.queue_seconds, seconds],
      ["Store", (row) => row.store_seconds, seconds],
      ["Sending", (row) => row.send_seconds, seconds],
      ["Bytes", (row) => row.bytes, bytes],
      ["Pipelined", (row) => row.requests, whole],
      ["Worker", (row) => row.worker, number],
      ["Ago", (row) => (row.time ? Date.now() / 1000 - row.time : null), duration],
    ] },
];

function number(value) {
  return typeof value === "number" ? count(value) : text(value);
}

/** A table of rows; a column that no row fills is left out. */
function drawTable(plan, rows) {
  const columns = plan.columns.filter(([, value]) => rows.some((row) => text(value(row)) !== ""));
  const kind = ([, , format]) => ({ class: format ? "number" : "words" });
  const head = columns.map((column) => element("th", { scope: "col", ...kind(column) }, column[0]));
  const body = rows.slice(0, plan.rows || ROWS_MAX).map((row) => {
    const cells = columns.map((column, i) => {
      const [, value, format] = column, shown = format ? format(value(row)) : text(value(row));
      return i === 0 ? element("th", { scope: "row" }, shown) : element("td", { ...kind(column), "data-column": column[0] }, shown);
    });
    return element("tr", { class: plan.loud && plan.loud(row) ? "loud" : "" }, ...cells);
  });
  return [element("thead", {}, element("tr", {}, ...head)), element("tbody", {}, ...body)];
}

const scroll = (label, table) =>
  element("div", { class: "scroll", tabindex: "0", role: "group", "aria-label": label }, table);

class Table {
  constructor(plan, parent) {
    this.plan = plan;
    this.isOff = false;
    const title = `${plan.id}-title`;
    this.table = element("table", { class: plan.whole ? "whole" : "" });
    this.scroll = scroll(plan.title, this.table);
    this.more = element("p", { class: "more" });
    this.section = element("section", { id: plan.id, "aria-labelledby": title },
      element("div", { class: "bar" }, element("h2", { id: title }, plan.title),
              element("p", { class: "note" }, plan.note || "")),
      this.scroll, this.more);
    if (plan.quiet) {
      this.quietTable = element("table", { class: plan.whole ? "whole" : "" });
      this.summary = element("summary");
      this.section.append(element("details", {}, this.summary, scroll(`${plan.title}: ${plan.quiet}`, this.quietTable)));
    }
    this.section.hidden = true;
    parent.append(this.section);
  }

  async load() {
    if (this.isOff) return;
    const reply = await fetch(this.plan.path + this.plan.query);
    if (!reply.ok || !/json/.test(reply.headers.get("Content-Type"))) {
      this.isOff = true; // a daemon that tells this as text only
      await reply.text();
      return;
    }
    const found = await reply.json();
    this.draw(found[this.plan.list] || []);
  }

  draw(rows) {
    const plan = this.plan;
    if (plan.order) rows = [...rows].sort((a, b) => plan.order(a) - plan.order(b));
    if (plan.quiet) {
      const quiet = rows.filter((row) => !plan.shown(row));
      rows = rows.filter(plan.shown);
      this.quietTable.replaceChildren(...drawTable(plan, quiet));
      this.summary.textContent = `${quiet.length} ${plan.quiet}`;
    }
    this.table.replaceChildren(...drawTable(plan, rows));
    this.scroll.hidden = rows.length === 0;
    this.more.replaceChildren();
    const left = rows.length - (plan.rows || ROWS_MAX);
    if (left > 0)
      this.more.append(`and ${whole(left)} more: `, element("a", { href: plan.path }, plan.path));
    else if (rows.length === 0 && plan.empty) this.more.append(plan.empty);
    this.section.hidden = false;
  }
}

/** Those tables whose addresses are among paths. */
export function makeTables(parent, paths) {
  return TABLES.filter((plan) => paths.has(plan.path)).map((plan) => new Table(plan, parent));
}
