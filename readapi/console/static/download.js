/** Downloads: all rows of a query as a file of the browser. */
import { load } from "./api.js";

/** Characters with which a spreadsheet begins a formula. A producer could otherwise run one on the reader's machine. */
const FORMULA = /^[=+\-@\t\r]/;

/**
 * Read all rows of a query, page by page.
 * @param {string} path
 * @param {URLSearchParams} params
 * @param {string} member Name of the member with the rows.
 * @param {(read: number, total: number) => void} onProgress
 * @returns {Promise<any[]>}
 */
export async function allRows(path, params, member, onProgress) {
  const wanted = new URLSearchParams(params);
  wanted.delete("page");
  wanted.set("per_page", "100");
  const rows = [];
  while (true) {
    const answer = await load(path, { params: wanted });
    rows.push(...answer[member]);
    onProgress(rows.length, answer.pagination.total);
    if (!answer.next) return rows;
    wanted.set("cursor", answer.next);
  }
}

/**
 * Write rows as CSV.
 * @param {any[]} rows
 * @param {string[]} columns
 */
export function csv(rows, columns) {
  const lines = rows.map((row) => columns.map((column) => cell(row[column])).join(","));
  return [columns.join(","), ...lines, ""].join("\r\n");
}

/** @param {unknown} value */
function cell(value) {
  if (value === null || value === undefined) return "";
  if (typeof value === "number" || typeof value === "boolean") return String(value);
  const text = typeof value === "string" ? value : JSON.stringify(value);
  return `"${(FORMULA.test(text) ? `'${text}` : text).replaceAll('"', '""')}"`;
}

/**
 * Let the browser save a file.
 * @param {string} name
 * @param {string} type
 * @param {string} content
 */
export function save(name, type, content) {
  const address = URL.createObjectURL(new Blob([content], { type }));
  const link = document.createElement("a");
  link.href = address;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
