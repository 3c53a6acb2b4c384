/** Backtests: runs with live progress, and the results of chosen runs side by side. */
import { AnswerNotice, Empty, LiveState, Status } from "../components/notices.js";
import { PagedTable } from "../components/table.js";
import { dateTime, duration, number, percent, words } from "../format.js";
import { useAnswer, useLiveAnswer } from "../hooks.js";
import { html } from "../html.js";
import { changed, go } from "../location.js";

/** Shortest time between two updates, in milliseconds. */
const UPDATE_INTERVAL = 300;

const METRICS = ["win_rate", "roi", "sharpe_ratio", "max_drawdown", "total_trades", "winning_trades", "duration_days"];
const STATES = ["processing", "completed", "failed", "cancelled"];
const QUERY = ["status", "sort_by", "sort_order", "page", "per_page"];

/** @param {{params: URLSearchParams}} props */
export function Backtests({ params }) {
  const query = new URLSearchParams([...params].filter(([name]) => QUERY.includes(name)));
  const push = { stream: "api/stream", query: "topics=backtests", interval: UPDATE_INTERVAL };
  const { answer, live } = useLiveAnswer(`api/backtests?${query}`, push);
  const change = (/** @type {Record<string, string | null>} */ changes) => go("backtests", changed(params, changes));
  const compared = (params.get("compare") ?? "").split(",").filter(Boolean);
  const toggle = (/** @type {string} */ id) =>
    change({ compare: (compared.includes(id) ? compared.filter((each) => each !== id) : [...compared, id]).join(",") });
  const runs = answer.content?.backtests ?? [];
  return html`<div class="toolbar">
      <${LiveState} state=${live} />
      <label>
        State
        <select
          value=${params.get("status") ?? ""}
          onChange=${(/** @type {any} */ event) => change({ status: event.target.value, page: null })}
        >
          <option value="">all</option>
          ${STATES.map((state) => html`<option key=${state} value=${state}>${state}</option>`)}
        </select>
      </label>
    </div>
    <${AnswerNotice} answer=${answer} />
    ${answer.content && runs.length === 0 && html`<${Empty}>There is no run with this state.<//>`}
    ${
      runs.length > 0 &&
      html`<${PagedTable}
        caption="Runs"
        columns=${columns(compared, toggle)}
        rows=${runs}
        keyOf=${(/** @type {any} */ run) => run.job_id}
        order="updated_at"
        pagination=${answer.content.pagination}
        query=${answer.path}
        params=${params}
        onChange=${change}
      />`
    }
    ${compared.length > 0 && html`<${Comparison} ids=${compared} onClose=${() => change({ compare: null })} />`}`;
}

/**
 * @param {string[]} compared
 * @param {(id: string) => void} toggle
 */
function columns(compared, toggle) {
  const metrics = METRICS.map((metric) => ({
    name: metric,
    label: words(metric),
    sort: metric,
    numeric: true,
    show: (/** @type {any} */ run) => number(run.results[metric]),
  }));
  return [
    {
      name: "run",
      label: "Run",
      show: (/** @type {any} */ run) =>
        html`<label>
          <input type="checkbox" checked=${compared.includes(run.job_id)} onChange=${() => toggle(run.job_id)} />
          ${` ${run.job_id}`}
        </label>`,
    },
    { name: "status", label: "State", show: (/** @type {any} */ run) => html`<${Status} status=${run.status} />` },
    {
      name: "progress",
      label: "Progress",
      sort: "progress",
      show: (/** @type {any} */ run) =>
        html`<progress max="1" value=${run.progress ?? 0} aria-label=${`Progress of ${run.job_id}`}></progress>
          ${` ${percent(run.progress)}`}`,
    },
    ...metrics,
    {
      name: "started",
      label: "Started",
      sort: "started_at",
      show: (/** @type {any} */ run) => dateTime(run.started_at),
    },
    {
      name: "updated",
      label: "Updated",
      sort: "updated_at",
      show: (/** @type {any} */ run) => dateTime(run.updated_at),
    },
  ];
}

/** @param {{ids: string[], onClose: () => void}} props */
function Comparison({ ids, onClose }) {
  const query = new URLSearchParams({ job_id: ids.join(","), fields: "run" });
  const answer = useAnswer(`api/read-models/backtests?${query}`, { interval: 2_000 });
  /** @type {any[]} */
  const runs = ids.flatMap(
    (id) => (answer.content?.rows ?? []).find((/** @type {any} */ row) => row.job_id === id) ?? [],
  );
  /** @type {[string, (run: any) => any][]} */
  const lines = [
    ["State", (run) => run.status],
    ["Progress", (run) => percent(run.progress)],
    ...METRICS.map(
      (metric) =>
        /** @type {[string, any]} */ ([words(metric), (/** @type {any} */ run) => number(run.results[metric])]),
    ),
    ["Time", (run) => (run.processing_time_seconds === null ? "–" : duration(run.processing_time_seconds))],
    ["Error", (run) => run.error_message ?? "–"],
  ];
  return html`<section class="panel drawer" aria-label="Comparison">
    <button class="close" onClick=${onClose}>Close</button>
    <h2>Comparison</h2>
    <${AnswerNotice} answer=${answer} />
    <div class="scroll" tabindex="0" role="region" aria-label="Results side by side">
      <table>
        <thead>
          <tr>
            <th scope="col">Value</th>
            ${runs.map((run) => html`<th key=${run.job_id} scope="col" class="numeric">${run.job_id}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${lines.map(
            ([label, show]) =>
              html`<tr key=${label}>
                <th scope="row">${label}</th>
                ${runs.map((run) => html`<td key=${run.job_id} class="numeric">${show(run)}</td>`)}
              </tr>`,
          )}
        </tbody>
      </table>
    </div>
  </section>`;
}
