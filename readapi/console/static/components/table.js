/** A table of rows: sorts by its headers, and is used with the arrow keys, Enter or the pointer. */
import { useLayoutEffect, useRef, useState } from "preact/hooks";
import { html } from "../html.js";

/**
 * @typedef {object} Column
 * @property {string} name
 * @property {string} label
 * @property {string} [sort] Value of `sort_by`. Without it, the table cannot be sorted by the column.
 * @property {boolean} [numeric]
 * @property {(row: any) => any} show
 */

/**
 * @typedef {object} TableProps
 * @property {string} caption
 * @property {Column[]} columns
 * @property {any[]} rows
 * @property {(row: any) => string} keyOf
 * @property {string} [sortBy]
 * @property {boolean} [descending]
 * @property {(sort: string, descending: boolean) => void} [onSort]
 * @property {(row: any) => void} [onOpen] Without it, rows cannot be opened.
 * @property {string} [open] Key of the open row.
 * @property {(row: any) => string} [classOf]
 * @property {(isOver: boolean) => void} [onPointer] Called when the pointer enters or leaves the rows.
 */

/** @param {TableProps} props */
export function Table(props) {
  const { caption, columns, rows, keyOf, open, onOpen, classOf, onPointer } = props;
  const pointer = (/** @type {PointerEvent} */ event, /** @type {boolean} */ isOver) => {
    if (event.pointerType === "mouse") onPointer?.(isOver);
  };
  const place = useKeptFocus();
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}>
    <table ref=${place} onKeyDown=${moveFocus}>
      <caption>
        ${caption}
      </caption>
      <thead>
        <tr>
          ${columns.map((column) => html`<${Header} key=${column.name} column=${column} table=${props} />`)}
        </tr>
      </thead>
      <tbody
        onPointerEnter=${(/** @type {PointerEvent} */ event) => pointer(event, true)}
        onPointerLeave=${(/** @type {PointerEvent} */ event) => pointer(event, false)}
      >
        ${rows.map((row) => {
          const key = keyOf(row);
          const click = onOpen ? () => onOpen(row) : undefined;
          return html`<tr key=${key} class=${`${classOf?.(row) ?? ""} ${key === open ? "open" : ""}`} onClick=${click}>
            ${columns.map((column, index) => {
              const content = column.show(row);
              const isOpener = index === 0 && onOpen;
              return html`<td key=${column.name} class=${column.numeric ? "numeric" : ""}>
                ${
                  isOpener
                    ? html`<button class="opener" aria-expanded=${key === open ? "true" : "false"}>${content}</button>`
                    : content
                }
              </td>`;
            })}
          </tr>`;
        })}
      </tbody>
    </table>
  </div>`;
}

/** @param {{column: Column, table: TableProps}} props */
function Header({ column, table }) {
  const { sortBy, descending = true, onSort } = table;
  const style = column.numeric ? "numeric" : "";
  if (!column.sort || !onSort) return html`<th scope="col" class=${style}>${column.label}</th>`;
  const sort = column.sort;
  const isSorted = sort === sortBy;
  const order = isSorted ? (descending ? "descending" : "ascending") : undefined;
  return html`<th scope="col" class=${style} aria-sort=${order}>
    <button onClick=${() => onSort(sort, isSorted ? !descending : true)}>
      ${column.label}<span aria-hidden="true">${isSorted ? (descending ? " ▾" : " ▴") : ""}</span>
    </button>
  </th>`;
}

const STEPS = /** @type {Record<string, number>} */ ({
  ArrowDown: 1,
  ArrowUp: -1,
  PageDown: 10,
  PageUp: -10,
  Home: -1e6,
  End: 1e6,
});

/** @param {HTMLElement | null} table */
function openersOf(table) {
  return /** @type {HTMLElement[]} */ ([...(table?.querySelectorAll("tbody .opener") ?? [])]);
}

/**
 * Keep the focus in the table when its row leaves: the next row gets it.
 * @returns {{current: HTMLElement | null}} The reference for the table.
 */
function useKeptFocus() {
  const place = useRef(/** @type {HTMLElement | null} */ (null));
  const before = openersOf(place.current).indexOf(/** @type {HTMLElement} */ (document.activeElement));
  useLayoutEffect(() => {
    if (before < 0 || document.activeElement !== document.body) return;
    const openers = openersOf(place.current);
    openers[Math.min(before, openers.length - 1)]?.focus();
  });
  return place;
}

/** @param {KeyboardEvent} event */
function moveFocus(event) {
  const step = STEPS[event.key];
  const openers = openersOf(/** @type {HTMLElement} */ (event.currentTarget));
  if (!step || !openers.length) return;
  event.preventDefault();
  const present = openers.indexOf(/** @type {HTMLElement} */ (document.activeElement));
  const next = present < 0 ? 0 : Math.min(openers.length - 1, Math.max(0, present + step));
  openers[next].focus();
}

/**
 * @typedef {object} PagedTableProps
 * @property {URLSearchParams} params The query of the address, with `sort_by`, `sort_order` and `page`.
 * @property {(changes: Record<string, string | null>) => void} onChange Called with changes of the query.
 * @property {Pagination} pagination
 * @property {string | null} query The query of the rows.
 * @property {string} order The sort without `sort_by`.
 * @property {boolean} [ascending] Whether the lowest value is first without `sort_order`.
 */

/** @typedef {{page: number | null, per_page: number, pages: number, total: number}} Pagination */

const PAGE_SIZES = [30, 50, 100];

/**
 * A table whose sort and page are in the address.
 * @param {PagedTableProps & Omit<TableProps, "sortBy" | "descending" | "onSort">} props
 */
export function PagedTable({ params, onChange, pagination, query, order, ascending = false, ...table }) {
  const [isOver, setOver] = useState(false);
  const rows = useSteadyRows(table.rows, table.keyOf, query, isOver);
  const isDescending = params.has("sort_order") ? params.get("sort_order") === "desc" : !ascending;
  return html`<${Table}
      ...${table}
      rows=${rows}
      onPointer=${(/** @type {boolean} */ isOver) => {
        setOver(isOver);
        table.onPointer?.(isOver);
      }}
      sortBy=${params.get("sort_by") ?? order}
      descending=${isDescending}
      onSort=${(/** @type {string} */ sort, /** @type {boolean} */ descending) =>
        onChange({ sort_by: sort, sort_order: descending ? "desc" : "asc", page: null })}
    />
    <${Pages} pagination=${pagination} onChange=${onChange} />`;
}

/**
 * Rows of a query that stay in their places while the pointer is on them: rows change, but no row moves.
 * @param {any[]} rows
 * @param {(row: any) => string} keyOf
 * @param {string | null} query
 * @param {boolean} isOver Whether the pointer is on the rows.
 */
function useSteadyRows(rows, keyOf, query, isOver) {
  const shown = useRef({ query, rows });
  const next = new Map(rows.map((row) => [keyOf(row), row]));
  const isSteady = isOver && shown.current.query === query;
  const steady = isSteady ? shown.current.rows.map((row) => next.get(keyOf(row)) ?? row) : rows;
  shown.current = { query, rows: steady };
  return steady;
}

/** @param {{pagination: Pagination, onChange: (changes: Record<string, string | null>) => void}} props */
function Pages({ pagination, onChange }) {
  const { page, per_page, pages, total } = pagination;
  const present = page ?? 1;
  const show = (/** @type {number} */ page) => onChange({ page: String(page) });
  return html`<nav class="pages" aria-label="Pages">
    <button disabled=${present <= 1} onClick=${() => show(present - 1)}>Previous page</button>
    <span>Page ${present} of ${Math.max(1, pages)}, <strong class="total">${total}</strong> rows</span>
    <button disabled=${present >= pages} onClick=${() => show(present + 1)}>Next page</button>
    <label>
      Rows per page
      <select
        value=${String(per_page)}
        onChange=${(/** @type {any} */ event) => onChange({ per_page: event.target.value, page: null })}
      >
        ${[...new Set([...PAGE_SIZES, per_page])].map((size) => html`<option key=${size} value=${String(size)}>${size}</option>`)}
      </select>
    </label>
  </nav>`;
}
