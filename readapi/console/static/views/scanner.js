/** The scanner: the active patterns as a table that live push keeps current. */
import { useEffect, useRef, useState } from "preact/hooks";
import { load, onSignIn } from "../api.js";
import { AnswerNotice, Empty, LiveState } from "../components/notices.js";
import { PagedTable } from "../components/table.js";
import { allRows, csv, save } from "../download.js";
import { number, percent, remaining } from "../format.js";
import { including, isTemporary, mayKeep, POLL_INTERVAL, RETRY, useFollowed, useNow } from "../hooks.js";
import { html } from "../html.js";
import { changed, go } from "../location.js";
import { PatternDetail } from "./scanner_detail.js";
import { FILTERS, Filters } from "./scanner_filters.js";
import { Changes, Moment, epochSeconds, useSince } from "./scanner_past.js";
import { GONE, inPlace, nextPage, settled, unmarked } from "./scanner_rows.js";

/** Shortest time between two scans, in milliseconds. */
const SCAN_INTERVAL = 300;

/** Columns of a download: the raw values. */
const DOWNLOADED = [
  ..."id symbol pattern_type tier confidence detected_at updated_at expires_at current_price price_change".split(" "),
  ..."relative_strength relative_volume rsi producer event_id correlation_id position".split(" "),
];

/** @param {number} now */
function columns(now) {
  return [
    { name: "symbol", label: "Symbol", sort: "symbol", show: show((pattern) => pattern.symbol) },
    { name: "pattern", label: "Pattern", show: show((pattern) => pattern.pattern_type) },
    { name: "tier", label: "Tier", show: show((pattern) => pattern.tier) },
    numeric("confidence", "Confidence", "confidence", (pattern) => percent(pattern.confidence)),
    numeric("rs", "Rel. strength", "rs", (pattern) => number(pattern.relative_strength)),
    numeric("vol", "Rel. volume", "volume", (pattern) => number(pattern.relative_volume)),
    numeric("rsi", "RSI", "rsi", (pattern) => number(pattern.rsi)),
    numeric("price", "Price", undefined, (pattern) => number(pattern.current_price)),
    numeric("change", "Change", undefined, (pattern) => pattern.chg ?? "–"),
    numeric("age", "Age", "detected_at", (pattern) => remaining(now, pattern.detected_at - 1)),
    numeric("life", "Life left", undefined, (pattern) => remaining(pattern.expires_at, now)),
  ];
}

/** @param {(pattern: any) => any} of */
function show(of) {
  return (/** @type {import("./scanner_rows.js").Row} */ row) => of(row.pattern);
}

/**
 * @param {string} name
 * @param {string} label
 * @param {string | undefined} sort
 * @param {(pattern: any) => any} of
 */
function numeric(name, label, sort, of) {
  return { name, label, sort, numeric: true, show: show(of) };
}

/**
 * The parameters of the address that belong to the scan.
 * @param {URLSearchParams} params
 * @param {string[]} names
 */
function selected(params, names) {
  return new URLSearchParams([...params].filter(([name]) => names.includes(name)));
}

/** @param {string} query Parameters of the scan. */
function useScan(query) {
  const [state, setState] = useState({
    query: /** @type {string | null} */ (null),
    rows: unmarked([]),
    page: /** @type {any} */ (null),
    waiting: 0,
  });
  const [error, setError] = useState(/** @type {any} */ (null));
  const isFrozen = useRef(false);
  const number = useRef(0);
  const retry = useRef(0);

  const scan = async (/** @type {string} */ position) => {
    clearTimeout(retry.current);
    number.current += 1;
    const mine = number.current;
    try {
      const params = new URLSearchParams(`${query}&fields=full`);
      const page = await load("api/patterns/scan", { params, headers: including(position) });
      if (mine !== number.current) return true;
      setError(null);
      setState((last) => arrive(last, query, page, isFrozen.current));
      if (page.stale) retry.current = window.setTimeout(update, POLL_INTERVAL);
      return true;
    } catch (failure) {
      if (mine !== number.current) return false;
      setError(failure);
      if (!mayKeep(failure)) setState((last) => ({ ...last, query: null, rows: [], page: null }));
      else if (isTemporary(failure)) retry.current = window.setTimeout(update, RETRY);
      return false;
    }
  };
  const isPast = new URLSearchParams(query).has("as_of");
  const filters = selected(new URLSearchParams(query), FILTERS).toString();
  const push = { stream: isPast ? null : "api/patterns/stream", query: filters, interval: SCAN_INTERVAL };
  const { live, update } = useFollowed(push, scan);

  useEffect(() => {
    void scan("");
    return onSignIn(() => {
      setState((last) => ({ ...last, query: null, rows: [], page: null }));
      update();
    });
  }, [query]);
  useEffect(() => {
    if (!state.rows.some((row) => row.mark === "gone")) return undefined;
    const timer = setTimeout(() => {
      if (!isFrozen.current) setState((last) => ({ ...last, rows: settled(last.rows) }));
    }, GONE);
    return () => clearTimeout(timer);
  }, [state.rows]);
  useEffect(() => () => clearTimeout(retry.current), []);
  const freeze = (/** @type {boolean} */ isOver) => {
    isFrozen.current = isOver;
    if (!isOver) update();
  };
  // The last page stays, with the focus in it, while the page of another query is loaded.
  const content = state.query === query || !error ? state.page : null;
  const hasTable = content !== null && state.rows.length > 0;
  useEffect(() => {
    // A table that is removed under the pointer does not tell that the pointer has left it.
    if (!hasTable) isFrozen.current = false;
  }, [hasTable]);
  return { state, live, freeze, answer: { content, error, loading: !content && !error } };
}

/**
 * @param {{query: string | null, rows: import("./scanner_rows.js").Row[], page: any, waiting: number}} last
 * @param {string} query
 * @param {any} page
 * @param {boolean} isFrozen Whether rows must not move, because the pointer is on them.
 */
function arrive(last, query, page, isFrozen) {
  if (last.query !== query) return { query, page, rows: unmarked(page.patterns), waiting: 0 };
  const shown = new Set(last.rows.map((row) => row.pattern.id));
  if (isFrozen) {
    const waiting = page.patterns.filter((/** @type {{id: string}} */ pattern) => !shown.has(pattern.id)).length;
    return { query, page, rows: inPlace(last.rows, page.patterns), waiting };
  }
  return { query, page, rows: nextPage(last.rows, page.patterns), waiting: 0 };
}

/** @param {{params: URLSearchParams}} props */
export function Scanner({ params }) {
  const query = selected(params, [...FILTERS, "sort_by", "sort_order", "page", "per_page", "as_of"]).toString();
  const { state, live, freeze, answer } = useScan(query);
  const now = useNow();
  const open = params.get("open");
  const change = (/** @type {Record<string, string | null>} */ changes) => go("scanner", changed(params, changes));
  useShortcuts({ onClose: () => change({ open: null }) });
  const openRow = state.rows.find((row) => row.pattern.id === open);
  return html`<${Filters}
      params=${params}
      onChange=${(/** @type {any} */ changes) => change({ page: null, ...changes })}
    />
    <div class="toolbar">
      <${LiveState} state=${live} />
      <${Moment} asOf=${params.get("as_of")} onChange=${change} />
      ${state.waiting > 0 && html`<span class="waiting" role="status">${state.waiting} more ${state.waiting === 1 ? "row waits" : "rows wait"} until the pointer leaves the table</span>`}
      <${Downloads} query=${query} />
      <span class="keys"
        >Keys: <kbd>/</kbd> filter, <kbd>↑</kbd> <kbd>↓</kbd> rows, <kbd>Enter</kbd> detail, <kbd>Esc</kbd> close</span
      >
    </div>
    <${AnswerNotice} answer=${answer} />
    ${answer.content && html`<${Rows} ...${{ state, params, change, freeze, now, open }} />`}
    ${
      open &&
      html`<${PatternDetail}
        key=${open}
        id=${open}
        position=${openRow?.pattern.position ?? ""}
        onClose=${() => change({ open: null })}
      />`
    }`;
}

/** @param {{state: any, params: URLSearchParams, change: any, freeze: any, now: number, open: string | null}} props */
function Rows({ state, params, change, freeze, now, open }) {
  const { rows, page } = state;
  const asOf = params.get("as_of");
  const since = useSince(asOf === null ? null : page.patterns);
  const present = columns(asOf === null ? now : epochSeconds(asOf));
  const sinceThen = { name: "since", label: "Since then", show: show((pattern) => since.get(pattern.id) ?? "–") };
  if (!rows.length) return html`<${Empty}>No active pattern matches the filters. ${hintOf(page.hint)}<//>`;
  return html`${asOf !== null && html`<${Changes} since=${since} asOf=${asOf} filters=${selected(params, FILTERS)} />`}
    <${PagedTable}
      caption="Active patterns"
      columns=${asOf === null ? present : [...present, sinceThen]}
      rows=${rows}
      keyOf=${(/** @type {any} */ row) => row.pattern.id}
      classOf=${(/** @type {any} */ row) => `${row.mark} ${row.changes % 2 ? "odd" : "even"}`}
      order="confidence"
      onOpen=${(/** @type {any} */ row) => change({ open: row.pattern.id === open ? null : row.pattern.id })}
      open=${open}
      onPointer=${freeze}
      pagination=${page.pagination}
      query=${state.query}
      params=${params}
      onChange=${change}
    />`;
}

/** @param {any} hint */
function hintOf(hint) {
  if (!hint) return "";
  return typeof hint === "string" ? hint : JSON.stringify(hint);
}

/** @param {{query: string}} props */
function Downloads({ query }) {
  const [progress, setProgress] = useState("");
  const download = async (/** @type {"csv" | "json"} */ form) => {
    try {
      const rows = await allRows(
        "api/patterns/scan",
        new URLSearchParams(`${query}&fields=full`),
        "patterns",
        (read, total) => setProgress(`${read} of ${total} rows`),
      );
      if (form === "csv") save("patterns.csv", "text/csv", csv(rows, DOWNLOADED));
      else save("patterns.json", "application/json", JSON.stringify(rows, null, 2));
      setProgress(`${rows.length} rows downloaded`);
    } catch (error) {
      setProgress(`The download failed: ${/** @type {Error} */ (error).message}`);
    }
  };
  return html`<button onClick=${() => download("csv")}>Download CSV</button>
    <button onClick=${() => download("json")}>Download JSON</button>
    <span role="status">${progress}</span>`;
}

/** @param {{onClose: () => void}} actions */
function useShortcuts({ onClose }) {
  const latest = useRef(onClose);
  latest.current = onClose;
  useEffect(() => {
    const press = (/** @type {KeyboardEvent} */ event) => {
      const isTyping = event.target instanceof HTMLInputElement || event.target instanceof HTMLSelectElement;
      if (event.key === "/" && !isTyping) {
        event.preventDefault();
        const field = /** @type {HTMLElement | null} */ (document.querySelector('input[name="symbols"]'));
        field?.closest("details")?.setAttribute("open", "");
        field?.focus();
      } else if (event.key === "Escape") latest.current();
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
}
