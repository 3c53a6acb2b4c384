/** Verification of the archive: the last recorded result, and a verification that an operator starts. */
import { JobState, useJob } from "../components/job.js";
import { AnswerNotice, Status } from "../components/notices.js";
import { Table } from "../components/table.js";
import { dateTime, number } from "../format.js";
import { useAnswer } from "../hooks.js";
import { html } from "../html.js";

/** The result of the last verification of the whole archive. */
export function LastVerification() {
  const answer = useAnswer("api/audit/verification", { interval: 10_000 });
  const health = useAnswer("api/health", { interval: 10_000 }).content?.verification;
  const last = answer.content?.verification;
  return html`<${AnswerNotice} answer=${answer} /> ${
      answer.content &&
      html`<p class="notice" role="status">
        ${health && html`<${Status} status=${health.status} />`}
        ${
          last
            ? ` The archive was last verified at ${dateTime(last.finished_at)}: ${number(last.events)} events.`
            : " The archive has not been verified yet."
        }
      </p>`
    }`;
}

/** A verification of the archive, or of a part of it. */
export function Verification() {
  const state = useJob("api/audit/verify", "run");
  const logs = Object.keys(useAnswer("api/health").content?.archive?.logs ?? {});
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const fields = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const entries = [...fields].map(([name, content]) => [name, String(content).trim()]);
    void state.start(Object.fromEntries(entries.filter(([, content]) => content)));
  };
  return html`<section class="panel" aria-label="Verification">
    <h2>Verify the archive</h2>
    <form class="filters" onSubmit=${submit}>
      <label>
        Log
        <select name="log">
          <option value="">all logs</option>
          ${logs.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
        </select>
      </label>
      <label>From position or time <input name="from" placeholder="the beginning" /></label>
      <label>To position or time <input name="to" placeholder="the end" /></label>
      <button disabled=${state.isUnderWay}>Verify</button>
    </form>
    <${JobState} state=${state} label="The verification" />
    ${state.job?.result && html`<${Result} run=${state.job} />`}
  </section>`;
}

/** @param {{run: any}} props */
function Result({ run }) {
  const { result } = run;
  const part = [run.log, run.since && `from ${run.since}`, run.until && `to ${run.until}`].filter(Boolean).join(", ");
  const verdict = result.ok ? "Everything fits" : "Something does not fit";
  return html`<p class=${`notice ${result.ok ? "good" : "error"}`} role="status">
      ${`${verdict}: ${number(result.events)} events of ${part || "the whole archive"}, `}
      ${number(Math.round(result.events_per_second))} per second.
    </p>
    <${Table}
      caption="Verified logs"
      keyOf=${(/** @type {any} */ log) => log.log}
      rows=${result.logs}
      columns=${[
        { name: "log", label: "Log", show: (/** @type {any} */ log) => log.log },
        numeric("first", "First"),
        numeric("last", "Last"),
        numeric("events", "Events"),
        {
          name: "found",
          label: "Found",
          show: (/** @type {any} */ log) => findingOf(log.misfit, log.misfit?.position),
        },
        { name: "hash", label: "Hash", show: (/** @type {any} */ log) => html`<code>${log.hash ?? "–"}</code>` },
      ]}
    />
    ${
      result.histories.length > 0 &&
      html`<${Table}
        caption="Verified histories"
        keyOf=${(/** @type {any} */ history) => `${history.history}/${history.version}/${history.log}`}
        rows=${result.histories}
        columns=${[
          { name: "history", label: "History", show: (/** @type {any} */ history) => history.history },
          { name: "log", label: "Log", show: (/** @type {any} */ history) => history.log ?? "–" },
          numeric("events", "Events"),
          numeric("rows", "Rows"),
          numeric("skipped", "Skipped"),
          {
            name: "found",
            label: "Found",
            show: (/** @type {any} */ history) => history.note ?? findingOf(history.misfit, history.misfit?.key),
          },
        ]}
      />`
    }
    <ul>
      ${result.heads.map(
        (/** @type {any} */ source) =>
          html`<li key=${source.origin}>
            ${number(source.heads)} heads compared with ${source.origin}${reasonOf(source.misfit ?? source.note)}
          </li>`,
      )}
    </ul>`;
}

/**
 * @param {string} name
 * @param {string} label
 */
function numeric(name, label) {
  return { name, label, numeric: true, show: (/** @type {any} */ row) => number(row[name]) };
}

/**
 * @param {{kind: string, detail: string} | null} misfit
 * @param {string | number} place
 */
function findingOf(misfit, place) {
  return misfit ? `${misfit.kind} at ${place}: ${misfit.detail}` : "fits";
}

/** @param {string | null} reason */
function reasonOf(reason) {
  return reason ? `: ${reason}` : "";
}
