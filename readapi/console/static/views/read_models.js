/** Read models: the rows of any read model, with the filters and sorts that it declares. */
import { DraftInput } from "../components/draft_input.js";
import { AnswerNotice, Empty, LiveState } from "../components/notices.js";
import { PagedTable } from "../components/table.js";
import { number, value, words } from "../format.js";
import { useAnswer, useLiveAnswer } from "../hooks.js";
import { html } from "../html.js";
import { changed, go } from "../location.js";

/** Shortest time between two updates, in milliseconds. */
const UPDATE_INTERVAL = 500;

/**
 * @typedef {object} Model
 * @property {string} name
 * @property {string} key
 * @property {string | null} scope
 * @property {string} build
 * @property {number | null} rows
 * @property {string} order
 * @property {{name: string, unit: string | null, type: string, description: string, filters: string[], sort: boolean,
 *   values: string[] | null}[]} columns
 */

/** @param {{params: URLSearchParams}} props */
export function ReadModels({ params }) {
  const answer = useAnswer("api/read-models", { interval: 10_000 });
  /** @type {Model[]} */
  const models = (answer.content?.read_models ?? []).filter((/** @type {Model} */ model) => model.scope !== null);
  const model = models.find((each) => each.name === params.get("name")) ?? models[0];
  return html`<${AnswerNotice} answer=${answer} /> ${
      model &&
      html`<div class="toolbar">
          <label>
            Read model
            <select
              name="name"
              value=${model.name}
              onChange=${(/** @type {any} */ event) => go("read-models", new URLSearchParams({ name: event.target.value }))}
            >
              ${models.map((each) => html`<option key=${each.name} value=${each.name}>${each.name}</option>`)}
            </select>
          </label>
          <span>Build ${model.build}, ${number(model.rows)} rows</span>
        </div>
        <${Rows} key=${model.name} model=${model} params=${params} />`
    }`;
}

/** @param {{model: Model, params: URLSearchParams}} props */
function Rows({ model, params }) {
  const filters = model.columns.flatMap((column) => column.filters.map((name) => ({ name, column })));
  const names = [...filters.map((filter) => filter.name), "sort_by", "sort_order", "page", "per_page"];
  const query = new URLSearchParams([...params].filter(([name]) => names.includes(name) && name !== "name"));
  const push = { stream: "api/stream", query: `topics=${model.name}`, interval: UPDATE_INTERVAL };
  const { answer, live } = useLiveAnswer(`api/read-models/${model.name}?${query}`, push);
  const change = (/** @type {Record<string, string | null>} */ changes) =>
    go("read-models", changed(params, { name: model.name, ...changes }));
  const rows = answer.content?.rows ?? [];
  return html`<details>
      <summary>Filters</summary>
      <form class="filters" onSubmit=${(/** @type {Event} */ event) => event.preventDefault()}>
        ${filters
          .filter((filter) => filter.name !== "name")
          .map(
            ({ name, column }) =>
              html`<label key=${name} title=${column.description}>
                ${words(name)}
                <${DraftInput}
                  name=${name}
                  value=${params.get(name) ?? ""}
                  onConfirm=${(/** @type {string} */ entry) => change({ [name]: entry, page: null })}
                />
              </label>`,
          )}
      </form>
    </details>
    <div class="toolbar"><${LiveState} state=${live} /></div>
    <${AnswerNotice} answer=${answer} />
    ${answer.content && rows.length === 0 && html`<${Empty}>No row matches the filters.<//>`}
    ${
      rows.length > 0 &&
      html`<${PagedTable}
        caption=${`Rows of ${model.name}`}
        columns=${model.columns.map(columnOf)}
        rows=${rows}
        keyOf=${(/** @type {any} */ row) => String(row[model.key])}
        order=${model.order}
        ascending=${isAscending(model, params)}
        pagination=${answer.content.pagination}
        query=${answer.path}
        params=${params}
        onChange=${change}
      />`
    }`;
}

/**
 * Whether the lowest value is first without `sort_order`: except for the default sort key, if it is a number.
 * @param {Model} model
 * @param {URLSearchParams} params
 */
function isAscending(model, params) {
  const order = model.columns.find((column) => column.name === model.order);
  return params.has("sort_by") || order?.type !== "number";
}

/** @param {Model["columns"][number]} column */
function columnOf({ name, unit, type, sort }) {
  return {
    name,
    label: words(name),
    sort: sort ? name : undefined,
    numeric: type === "number" && unit !== "epoch seconds",
    show: (/** @type {any} */ row) => value(row[name], unit),
  };
}
