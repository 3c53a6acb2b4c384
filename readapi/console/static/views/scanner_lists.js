/** Watchlists and filter presets of the user: chosen for the scan, and edited in place. */
import { useEffect, useState } from "preact/hooks";
import { ApiError, load, onSignIn, send } from "../api.js";
import { ErrorNotice } from "../components/notices.js";
import { html } from "../html.js";

/** @typedef {{id: string, name: string, version: number, symbols?: string[], parameters?: object, default?: boolean}} List */

/**
 * @typedef {object} Kind
 * @property {string} path
 * @property {string} member Name of the member with the lists.
 * @property {string} parameter Parameter of the scan.
 * @property {string} label
 * @property {boolean} hasSymbols Whether the content is symbols. Otherwise it is the present filters.
 */

/** @type {Kind[]} */
export const KINDS = [
  { path: "api/users/watchlists", member: "watchlists", parameter: "watchlist", label: "Watchlist", hasSymbols: true },
  { path: "api/users/filter-presets", member: "presets", parameter: "preset", label: "Preset", hasSymbols: false },
];

const CONFLICT = 412;

/**
 * @param {{kind: Kind, params: URLSearchParams, filters: string[],
 *   onChange: (changes: Record<string, string | null>) => void}} props `filters` names the parameters of a preset.
 */
export function ListEditor({ kind, params, filters, onChange }) {
  const [lists, read] = useLists(kind);
  const [error, setError] = useState(/** @type {any} */ (null));
  const id = params.get(kind.parameter) ?? "";
  const list = lists.find((each) => each.id === id);
  const [name, setName] = useState("");
  const [symbols, setSymbols] = useState("");
  const [version, setVersion] = useState(0);
  const show = (/** @type {List | undefined} */ shown) => {
    setName(shown?.name ?? "");
    setSymbols((shown?.symbols ?? []).join(","));
    setVersion(shown?.version ?? 0);
    setError(null);
  };
  useEffect(() => {
    // Before a list is chosen, there is nothing to show, and a name that was entered already must stay.
    if (id || version) show(list);
  }, [id, list === undefined]);

  // A filter of the address replaces that of the chosen preset, as in the scan. The saved preset has all these filters.
  const content = (/** @type {List | undefined} */ chosen) => ({
    name,
    ...(kind.hasSymbols
      ? { symbols: split(symbols) }
      : { parameters: { ...chosen?.parameters, ...presetOf(params, filters) } }),
  });
  const changedContent = (/** @type {List} */ present) => ({
    ...content(present),
    ...(kind.hasSymbols ? {} : { default: present.default }),
  });
  /**
   * @param {string} method
   * @param {string} path
   * @param {unknown} [body]
   * @param {number} [known] The version that may be changed.
   */
  const write = async (method, path, body, known) => {
    try {
      /** @type {Record<string, string>} */
      const headers = known ? { "If-Match": `"${known}"` } : {};
      const response = await send(path, { method, body, headers });
      const written = response.status === 204 ? undefined : Object.values(await response.json())[0];
      await read(response.headers.get("TickView-Position") ?? "");
      show(written);
      onChange({ [kind.parameter]: written?.id ?? null });
    } catch (failure) {
      setError(failure);
    }
  };
  const own = `${kind.path}/${id}`;
  const overwrite = async () => {
    const present = Object.values(await load(own))[0];
    await write("PUT", own, changedContent(present), present.version);
  };
  return html`<fieldset>
    <legend>${kind.label}</legend>
    <label>
      ${kind.label}
      <select
        name=${kind.parameter}
        value=${id}
        onChange=${(/** @type {any} */ event) => onChange({ [kind.parameter]: event.target.value })}
      >
        <option value="">none</option>
        ${lists.map((each) => html`<option key=${each.id} value=${each.id}>${each.name}</option>`)}
      </select>
    </label>
    <label>
      ${`Name of the ${kind.label.toLowerCase()}`}
      <input value=${name} onInput=${(/** @type {any} */ event) => setName(event.target.value)} />
    </label>
    ${
      kind.hasSymbols &&
      html`<label>
        Symbols of the watchlist
        <input value=${symbols} onInput=${(/** @type {any} */ event) => setSymbols(event.target.value)} />
      </label>`
    }
    <button type="button" disabled=${!name} onClick=${() => write("POST", kind.path, content(list))}>
      ${kind.hasSymbols ? "Save as new watchlist" : "Save the filters as new preset"}
    </button>
    ${
      list &&
      html`<button type="button" onClick=${() => write("PUT", own, changedContent(list), version)}>
          Save the changes
        </button>
        <button type="button" onClick=${() => write("DELETE", own, undefined, version)}>Delete</button>`
    }
    ${error && html`<${Fault} error=${error} onTheirs=${async () => show((await read("")).find((each) => each.id === id))} onMine=${overwrite} />`}
  </fieldset>`;
}

/**
 * The fault of a command. After a conflict, the user decides which version stays.
 * @param {{error: Error, onTheirs: () => void, onMine: () => void}} props
 */
function Fault({ error, onTheirs, onMine }) {
  if (!(error instanceof ApiError && error.status === CONFLICT)) return html`<${ErrorNotice} error=${error} />`;
  return html`<div class="notice warning" role="alert">
    Somebody has changed this list since you opened it. Your changes are not saved.
    <button type="button" onClick=${onTheirs}>Show the other version</button>
    <button type="button" onClick=${onMine}>Save mine over it</button>
  </div>`;
}

/**
 * The lists of a kind, and a function that reads them again when they include a position.
 * @param {Kind} kind
 * @returns {[List[], (position: string) => Promise<List[]>]}
 */
function useLists(kind) {
  const [lists, setLists] = useState(/** @type {List[]} */ ([]));
  const read = async (/** @type {string} */ position) => {
    /** @type {Record<string, string>} */
    const headers = position ? { "TickView-Min-Position": position } : {};
    const answer = await load(kind.path, { headers });
    setLists(answer[kind.member]);
    return answer[kind.member];
  };
  useEffect(() => {
    // The scan shows the same problem, so that the choice just stays empty.
    const readOrClear = () => void read("").catch(() => setLists([]));
    readOrClear();
    return onSignIn(readOrClear);
  }, []);
  return [lists, read];
}

/** @param {string} symbols */
function split(symbols) {
  return symbols.split(/[\s,]+/).filter(Boolean);
}

/**
 * @param {URLSearchParams} params
 * @param {string[]} filters
 */
function presetOf(params, filters) {
  return Object.fromEntries([...params].filter(([name]) => filters.includes(name)));
}
