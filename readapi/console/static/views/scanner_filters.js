/** The filters of the scanner. Each names the parameter of the scan that it sets. */
import { useState } from "preact/hooks";
import { DraftInput } from "../components/draft_input.js";
import { useAnswer } from "../hooks.js";
import { html } from "../html.js";
import { KINDS, ListEditor } from "./scanner_lists.js";

/**
 * @typedef {object} Filter
 * @property {string} name Parameter of the scan.
 * @property {string} label
 * @property {string} [hint]
 * @property {string} [choices] Name of the known values.
 */

/** Whether the window has room for the filters beside the table. On a phone they open when they are wanted. */
const IS_WIDE = matchMedia("(min-width: 40rem)").matches;

/** @type {Filter[]} */
const COMMON = [
  { name: "symbols", label: "Symbols", hint: "AAPL,MSFT" },
  { name: "pattern_types", label: "Pattern types", choices: "types" },
  { name: "timeframe", label: "Tiers", choices: "tiers" },
  { name: "confidence_min", label: "Lowest confidence", hint: "0.5" },
  { name: "rs_min", label: "Lowest relative strength", hint: "1.0" },
  { name: "vol_min", label: "Lowest relative volume", hint: "1.5" },
  { name: "rsi_range", label: "RSI from,to", hint: "30,70" },
];

/** @type {Filter[]} */
const FURTHER = [
  { name: "sectors", label: "Sectors", choices: "sectors" },
  { name: "universe", label: "Universes", choices: "universes" },
  { name: "confidence_max", label: "Highest confidence" },
  { name: "relative_strength_max", label: "Highest relative strength" },
  { name: "relative_volume_max", label: "Highest relative volume" },
  { name: "detected_at_min", label: "Detected from", hint: "2026-11-25T10:00:00Z" },
  { name: "detected_at_max", label: "Detected until", hint: "2026-11-25T12:00:00Z" },
];

/** Names of all parameters that select patterns. */
export const FILTERS = [...COMMON, ...FURTHER].map((filter) => filter.name).concat("id", "watchlist", "preset");

/** Names of the parameters that a preset keeps. */
const PRESET_PARAMETERS = [...FILTERS, "sort_by", "sort_order"].filter((name) => name !== "preset");

/**
 * @param {{params: URLSearchParams, onChange: (changes: Record<string, string | null>) => void}} props
 */
export function Filters({ params, onChange }) {
  const furtherNames = [...FURTHER.map((filter) => filter.name), "watchlist", "preset"];
  const [isOpen, setOpen] = useState(furtherNames.some((name) => params.has(name)));
  const field = (/** @type {Filter} */ filter) =>
    html`<${Field} key=${filter.name} filter=${filter} value=${params.get(filter.name) ?? ""} onChange=${onChange} />`;
  return html`<details open=${IS_WIDE}>
      <summary>Filters</summary>
      <form class="filters" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
        ${COMMON.map(field)}
        <button
          type="button"
          onClick=${() => onChange(Object.fromEntries([...FILTERS, "sort_by", "sort_order"].map((name) => [name, null])))}
        >
          Clear the filters
        </button>
      </form>
    </details>
    <details open=${isOpen} onToggle=${(/** @type {any} */ event) => setOpen(event.currentTarget.open)}>
      <summary>Further filters</summary>
      ${
        isOpen &&
        html`<form class="filters" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
          ${FURTHER.map(field)}
          ${KINDS.map(
            (kind) =>
              html`<${ListEditor}
                key=${kind.path}
                kind=${kind}
                params=${params}
                filters=${PRESET_PARAMETERS}
                onChange=${onChange}
              />`,
          )}
        </form>`
      }
    </details>
    <${Choices} />`;
}

/** @param {{filter: Filter, value: string, onChange: (changes: Record<string, string | null>) => void}} props */
function Field({ filter, value, onChange }) {
  return html`<label>
    ${filter.label}
    <${DraftInput}
      name=${filter.name}
      value=${value}
      placeholder=${filter.hint ?? ""}
      list=${filter.choices ? `choices-${filter.choices}` : undefined}
      autocomplete="off"
      onConfirm=${(/** @type {string} */ entry) => onChange({ [filter.name]: entry })}
    />
  </label>`;
}

/** The known values of filters, which the browser offers while the user types. */
function Choices() {
  const statistics = useAnswer("api/patterns/stats", { interval: 30_000 }).content?.statistics;
  const sectors = useAnswer("api/dashboard/stats").content?.symbols?.by_sector;
  const universes = useAnswer("api/users/universe").content?.universes;
  const choices = {
    types: Object.keys(statistics?.by_type ?? {}),
    tiers: Object.keys(statistics?.by_tier ?? {}),
    sectors: Object.keys(sectors ?? {}),
    universes: (universes ?? []).map((/** @type {{key: string}} */ universe) => universe.key),
  };
  return Object.entries(choices).map(
    ([name, values]) =>
      html`<datalist key=${name} id=${`choices-${name}`}>
        ${values.map((/** @type {string} */ value) => html`<option key=${value} value=${value} />`)}
      </datalist>`,
  );
}
