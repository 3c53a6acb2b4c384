/** Numbers and times as people read them. */

const UNITS = /** @type {const} */ ([
  [86_400, "d"],
  [3_600, "h"],
  [60, "m"],
]);

const DATE_TIME = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const TIME = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const TIME_WITH_SECONDS = new Intl.DateTimeFormat(undefined, { timeStyle: "medium", hourCycle: "h23" });
const NUMBER = new Intl.NumberFormat(undefined, { maximumFractionDigits: 4 });

/**
 * Format a duration in its largest whole unit.
 * @param {number} seconds
 */
export function duration(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  for (const [size, unit] of UNITS) if (whole >= size) return `${Math.floor(whole / size)}${unit}`;
  return `${whole}s`;
}

/**
 * Format the time that remains until a moment.
 * @param {number | null} until In epoch seconds.
 * @param {number} now In epoch seconds.
 */
export function remaining(until, now) {
  if (until === null || until === undefined) return "–";
  return until <= now ? "ended" : duration(until - now);
}

/** @param {number | null | undefined} epochSeconds */
export function dateTime(epochSeconds) {
  return epochSeconds === null || epochSeconds === undefined ? "–" : DATE_TIME.format(epochSeconds * 1_000);
}

/**
 * Format the time of a mark: with seconds, unless it is a whole minute.
 * @param {number} epochSeconds
 */
export function timeOf(epochSeconds) {
  return (epochSeconds % 60 ? TIME_WITH_SECONDS : TIME).format(epochSeconds * 1_000);
}

/** @param {number | null | undefined} value */
export function number(value) {
  return value === null || value === undefined ? "–" : NUMBER.format(value);
}

/** @param {number | null | undefined} value From 0 to 1. */
export function percent(value) {
  return value === null || value === undefined ? "–" : `${(value * 100).toFixed(1)} %`;
}

/** @param {string} name */
export function words(name) {
  const text = name.replaceAll("_", " ").replace(/\b(id|roi|rsi)\b/g, (short) => short.toUpperCase());
  return text.charAt(0).toUpperCase() + text.slice(1);
}

/**
 * Format any value of a row.
 * @param {unknown} value
 * @param {string | null} [unit]
 */
export function value(value, unit) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return unit === "epoch seconds" ? dateTime(value) : number(value);
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
