/** The scan at an earlier moment, and what has changed since. */
import { useMemo } from "preact/hooks";
import { DraftInput } from "../components/draft_input.js";
import { dateTime, number, percent } from "../format.js";
import { useAnswer, useNow } from "../hooks.js";
import { html } from "../html.js";

/** Highest number of minutes that the slider goes back. */
const MOST_MINUTES = 120;

/**
 * A slider for the moment of the scan.
 * @param {{asOf: string | null, onChange: (changes: Record<string, string | null>) => void}} props
 *   `asOf` is in epoch seconds, or ISO 8601. Null is the present.
 */
export function Moment({ asOf, onChange }) {
  const now = useNow();
  const minutes = asOf === null ? 0 : Math.round((now - epochSeconds(asOf)) / 60);
  const change = (/** @type {string} */ entry) => {
    const ago = -Number(entry);
    onChange({ as_of: ago ? String(Math.floor(Date.now() / 1_000 - ago * 60)) : null, page: null });
  };
  return html`<label class="moment">
      As of
      <${DraftInput}
        type="range"
        min=${-MOST_MINUTES}
        max="0"
        value=${String(-Math.min(minutes, MOST_MINUTES))}
        aria-valuetext=${asOf === null ? "now" : `${minutes} minutes ago`}
        onConfirm=${change}
      />
      ${asOf === null ? "now" : dateTime(epochSeconds(asOf))}
    </label>
    ${asOf !== null && html`<button onClick=${() => onChange({ as_of: null, page: null })}>Back to now</button>`}`;
}

/**
 * Return the epoch seconds of a moment as the scan takes it: a number, or ISO 8601.
 * @param {string} moment
 */
export function epochSeconds(moment) {
  return /^[0-9.]+$/.test(moment) ? Number(moment) : Date.parse(moment) / 1_000;
}

/**
 * Describe what became of each row since the moment of the scan.
 * @param {any[] | null} patterns The rows of a scan of the past. Null for a scan of the present.
 * @returns {Map<string, string>} The description by the id of the pattern.
 */
export function useSince(patterns) {
  // A list in a query is separated by commas, so that an id with a comma cannot be asked for.
  const ids = (patterns ?? []).map((pattern) => pattern.id).filter((id) => !id.includes(","));
  const query = new URLSearchParams({ id: ids.join(","), per_page: "100" });
  const answer = useAnswer(ids.length ? `api/read-models/patterns?${query}` : null, { interval: 5_000 });
  const rows = answer.content?.rows;
  return useMemo(() => {
    /** @type {Map<string, any>} */
    const present = new Map((rows ?? []).map((/** @type {any} */ row) => [row.id, row]));
    const known = (patterns ?? []).filter((pattern) => rows && ids.includes(pattern.id));
    return new Map(known.map((pattern) => [pattern.id, difference(pattern, present.get(pattern.id))]));
  }, [patterns, rows]);
}

/**
 * How many of the rows have left or changed since, and how many patterns have been detected since that match the filters.
 * @param {{since: Map<string, string>, asOf: string, filters: URLSearchParams}} props
 */
export function Changes({ since, asOf, filters }) {
  const params = new URLSearchParams(filters);
  params.set(
    "detected_at_min",
    String(Math.max(epochSeconds(asOf), epochSeconds(params.get("detected_at_min") ?? "0"))),
  );
  params.set("per_page", "1");
  const detected = useAnswer(`api/patterns/scan?${params}`, { interval: 5_000 }).content?.pagination.total;
  const descriptions = [...since.values()];
  const left = descriptions.filter((each) => each === LEFT).length;
  const same = descriptions.filter((each) => each === UNCHANGED).length;
  const changed = descriptions.length - left - same;
  return html`<p role="status">
    ${`Of the ${descriptions.length} patterns on this page, ${left} have left since then, ${changed} have changed, and ${same} are unchanged.`}
    ${` ${detected ?? "–"} active patterns that match the filters have been detected since.`}
  </p>`;
}

const LEFT = "has left";
const UNCHANGED = "unchanged";

/**
 * @param {any} then
 * @param {any} now
 */
function difference(then, now) {
  if (!now) return LEFT;
  if (then.position === now.position) return UNCHANGED;
  const changes = [];
  if (then.confidence !== now.confidence)
    changes.push(`confidence ${percent(then.confidence)} → ${percent(now.confidence)}`);
  if (then.current_price !== now.current_price) {
    changes.push(`price ${number(then.current_price)} → ${number(now.current_price)}`);
  }
  return changes.join(", ") || "changed";
}
