// units -- numbers as people read them: three digits, a unit, never a jumping width.

const SPACE = "\u202f"; // narrow, and never a line break

/** Three significant digits, with thousands set apart. */
function digits(value) {
  const size = Math.abs(value);
  if (size < 0.005) return "0";
  if (size >= 100 || Number.isInteger(value)) return Math.round(value).toLocaleString("en");
  return value.toFixed(size >= 10 ? 1 : 2);
}

function scaled(value, steps) {
  const step = steps.find(([least]) => Math.abs(value) >= least) || steps[steps.length - 1];
  return digits(value / step[0]) + (step[1] ? SPACE + step[1] : "");
}

const BYTES = [[2 ** 40, "TiB"], [2 ** 30, "GiB"], [2 ** 20, "MiB"], [2 ** 10, "KiB"], [1, "B"]];
const COUNTS = [[1e9, "G"], [1e6, "M"], [1e3, "k"], [1, ""]];
const SECONDS = [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]];

const WHOLE_MAX = 1e4; // a count below it is told to the last one

export const NONE = "–";

const orNone = (format) => (value) => (value === null || value === undefined || Number.isNaN(value) ? NONE : format(value));

export const bytes = orNone((value) => scaled(value, BYTES));
export const count = orNone((value) => (value < WHOLE_MAX ? digits(value) : scaled(value, COUNTS)));
export const whole = orNone((value) => Math.round(value).toLocaleString("en"));
export const rate = orNone((value) => count(value) + "/s");
/** For scales, where neighbours should look alike. */
export const rateShort = orNone((value) => scaled(value, COUNTS) + "/s");
export const seconds = orNone((value) => (value === 0 ? "0" + SPACE + "s" : scaled(value, SECONDS)));
export const percent = orNone((value) => (value * 100).toFixed(value > 0.9995 || value === 0 ? 0 : 1) + SPACE + "%");
export const percentShort = orNone((value) => Math.round(value * 100) + SPACE + "%");

/** A length of time in its two largest parts: "3 h 12 min". */
export const duration = orNone((value) => {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  let rest = Math.floor(value);
  const told = [];
  for (const [length, name] of parts) {
    const number = Math.floor(rest / length);
    rest -= number * length;
    if (number > 0 || (name === "s" && told.length === 0)) told.push(number + SPACE + name);
  }
  return told.slice(0, 2).join(" ");
});
