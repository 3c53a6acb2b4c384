/** The replay of a read model: start, progress, the differences of the new build, switch, and rollback. */
import { useState } from "preact/hooks";
import { load } from "../api.js";
import { JobState, useJob } from "../components/job.js";
import { ErrorNotice } from "../components/notices.js";
import { duration, number } from "../format.js";
import { html } from "../html.js";

/** @param {{model: any, onChange: () => void, onClose: () => void}} props */
export function Replay({ model, onChange, onClose }) {
  const path = `api/projections/${encodeURIComponent(model.name)}`;
  const [error, setError] = useState(/** @type {any} */ (null));
  const verification = useJob(`${path}/verify`, "verification");
  const command = async (/** @type {string} */ verb, /** @type {unknown} */ body) => {
    try {
      await load(`${path}/${verb}`, { method: "POST", body });
      setError(null);
    } catch (failure) {
      setError(failure);
    }
    onChange();
  };
  const old = model.building ? model.live : model.previous;
  const young = model.building ?? model.live;
  return html`<section class="panel" aria-label=${`Replay of ${model.name}`}>
    <button class="close" onClick=${onClose}>Close</button>
    <h2>Replay of ${model.name}</h2>
    <p>
      Build ${model.live ?? "–"} is live. A replay makes a new build from the whole history beside it, and no request
      waits for it.
    </p>
    ${error && html`<${ErrorNotice} error=${error} />`}
    <${Start}
      key=${model.building ?? ""}
      model=${model}
      onStart=${(/** @type {unknown} */ body) => command("replay", body)}
    />
    ${model.building && html`<${BuildProgress} model=${model} />`}
    <div class="toolbar">
      ${
        old &&
        html`<button disabled=${verification.isUnderWay} onClick=${() => verification.start(undefined)}>
          Verify: compare ${young} with ${old}
        </button>`
      }
      ${
        model.building &&
        html`<button onClick=${() => command("switch", { build: model.building })}>Switch to ${model.building}</button>`
      }
      ${
        model.previous &&
        html`<button onClick=${() => command("rollback", undefined)}>Roll back to ${model.previous}</button>`
      }
    </div>
    <${JobState} state=${verification} label="The comparison" />
    ${verification.job?.result && html`<${Differences} job=${verification.job} />`}
  </section>`;
}

/** @param {{model: any, onStart: (body: unknown) => void}} props */
function Start({ model, onStart }) {
  const isUnderWay = model.building !== null;
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const fields = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    onStart({ throttle: Number(fields.get("throttle")), hold: fields.has("hold") });
  };
  return html`<form class="filters" onSubmit=${submit}>
    <label>
      Most events per second and log
      <input name="throttle" type="number" min="0" max="1000000000" defaultValue="0" required />
    </label>
    <label class="check">
      <input name="hold" type="checkbox" defaultChecked=${isUnderWay ? model.held : true} disabled=${isUnderWay} />
      Wait for me before the new build goes live
    </label>
    <button>${isUnderWay ? "Change the throttle" : "Start the replay"}</button>
    <small>0: no limit</small>
  </form>`;
}

/** @param {{model: any}} props */
function BuildProgress({ model }) {
  const rate = model.building_segments.reduce(
    (/** @type {number} */ sum, /** @type {any} */ segment) => sum + segment.events_per_second,
    0,
  );
  const left = model.seconds_left === null ? "time left unknown" : `${duration(model.seconds_left)} left`;
  const state = model.seconds_left === 0 ? "has caught up" : left;
  return html`<p role="status">
    <progress max="100" value=${model.percent} aria-label=${`Progress of build ${model.building}`}></progress>
    ${` Build ${model.building}: ${number(model.percent)} %, ${number(rate)} events per second, ${state}`}
    ${model.held ? ". It waits for your command to go live." : ". It goes live by itself."}
  </p>`;
}

/**
 * The differences of two builds, row by row and field by field.
 * @param {{job: any}} props
 */
function Differences({ job }) {
  const { count, differences } = job.result;
  if (count === 0) return html`<p class="notice" role="status">No row differs between ${job.old} and ${job.new}.</p>`;
  /** @type {Map<string, any[]>} */
  const rows = new Map();
  for (const difference of differences) rows.set(difference.key, [...(rows.get(difference.key) ?? []), difference]);
  return html`<p class="notice warning" role="status">
      ${number(count)} ${count === 1 ? "difference" : "differences"} between ${job.old} and ${job.new}
      ${differences.length < count ? `, of which the first ${differences.length} are below` : ""}.
    </p>
    <div class="scroll" tabindex="0" role="region" aria-label="Differences">
      <table class="differences">
        <caption>
          Differences
        </caption>
        <thead>
          <tr>
            <th scope="col">Field</th>
            <th scope="col">Build ${job.old}</th>
            <th scope="col">Build ${job.new}</th>
          </tr>
        </thead>
        ${[...rows].map(
          ([key, changes]) =>
            html`<tbody key=${key}>
              <tr>
                <th scope="rowgroup" colspan="3"><code>${key}</code>${presenceOf(changes)}</th>
              </tr>
              ${changes.flatMap(fieldsOf).map(
                ([field, before, after]) =>
                  html`<tr key=${field}>
                    <th scope="row">${field}</th>
                    <td>${before === undefined ? "–" : html`<del>${JSON.stringify(before)}</del>`}</td>
                    <td>${after === undefined ? "–" : html`<ins>${JSON.stringify(after)}</ins>`}</td>
                  </tr>`,
              )}
            </tbody>`,
        )}
      </table>
    </div>`;
}

/** @param {any[]} changes */
function presenceOf([{ field, old }]) {
  if (field) return "";
  return old === null ? ", a row of the new build alone" : ", a row of the old build alone";
}

/**
 * The fields of a difference. A row that one build lacks differs in each of its fields.
 * @param {any} difference
 * @returns {[string, unknown, unknown][]}
 */
function fieldsOf(difference) {
  if (difference.field) return [[difference.field, difference.old, difference.new]];
  const isNew = difference.old === null;
  return Object.entries(difference.old ?? difference.new).map(([name, content]) => [
    name,
    isNew ? undefined : content,
    isNew ? content : undefined,
  ]);
}
