/** The rows of the scanner: a page of the scan, with a mark on each row that is new, has changed or has left. */

/** @typedef {{id: string, position: string, [name: string]: any}} Pattern */
/** @typedef {{pattern: Pattern, mark: string, changes: number, goneAt?: number}} Row */

/** Milliseconds for which a row that has left stays in its place. */
export const GONE = 900;

/**
 * Show the first page of a query, without marks.
 * @param {Pattern[]} patterns
 * @returns {Row[]}
 */
export function unmarked(patterns) {
  return patterns.map((pattern) => ({ pattern, mark: "", changes: 0 }));
}

/**
 * Show a new page of the same query. A row that has left stays in its place for a moment, marked as gone.
 * @param {Row[]} shown
 * @param {Pattern[]} next
 * @returns {Row[]}
 */
export function nextPage(shown, next) {
  const now = Date.now();
  const before = new Map(shown.map((row) => [row.pattern.id, row]));
  const present = new Set(next.map((pattern) => pattern.id));
  const rows = next.map((pattern) => {
    const row = before.get(pattern.id);
    return row && row.mark !== "gone" ? updated(row, pattern) : { pattern, mark: "new", changes: 0 };
  });
  shown.forEach((row, index) => {
    if (present.has(row.pattern.id)) return;
    const left = gone(row, now);
    if (now - (left.goneAt ?? now) < GONE) rows.splice(Math.min(index, rows.length), 0, left);
  });
  return rows;
}

/**
 * Change rows in their places: no row moves, appears or disappears. Rows that left are marked as gone.
 * @param {Row[]} shown
 * @param {Pattern[]} next
 * @returns {Row[]}
 */
export function inPlace(shown, next) {
  const now = Date.now();
  const present = new Map(next.map((pattern) => [pattern.id, pattern]));
  return shown.map((row) => {
    const pattern = present.get(row.pattern.id);
    return pattern ? updated(row, pattern) : gone(row, now);
  });
}

/**
 * @param {Row} row
 * @param {number} now
 * @returns {Row}
 */
function gone(row, now) {
  return row.mark === "gone" ? row : { ...row, mark: "gone", goneAt: now };
}

/**
 * Remove the rows that are marked as gone.
 * @param {Row[]} shown
 */
export function settled(shown) {
  return shown.some((row) => row.mark === "gone") ? shown.filter((row) => row.mark !== "gone") : shown;
}

/**
 * @param {Row} row
 * @param {Pattern} pattern
 * @returns {Row}
 */
function updated(row, pattern) {
  if (row.pattern.position === pattern.position) return row.mark === "gone" ? { ...row, mark: "" } : row;
  return { pattern, mark: "changed", changes: row.changes + 1 };
}
