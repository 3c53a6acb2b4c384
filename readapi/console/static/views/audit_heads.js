/** Heads: the ends of the hash chains, to be kept by an auditor, and the check of heads of an earlier time. */
import { useState } from "preact/hooks";
import { load } from "../api.js";
import { JobState, useJob } from "../components/job.js";
import { ErrorNotice } from "../components/notices.js";
import { Table } from "../components/table.js";
import { save } from "../download.js";
import { number } from "../format.js";
import { html } from "../html.js";

export function Heads() {
  const [taken, setTaken] = useState(/** @type {any} */ (null));
  const [error, setError] = useState(/** @type {any} */ (null));
  const check = useJob("api/audit/check", "check");
  /** @param {() => Promise<void>} action */
  const attempt = async (action) => {
    try {
      await action();
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  };
  const take = () => attempt(async () => setTaken(await load("api/audit/head")));
  const checkFile = (/** @type {Event} */ event) =>
    attempt(async () => {
      const field = /** @type {HTMLInputElement} */ (event.currentTarget);
      const [file] = field.files ?? [];
      if (file) await check.start(parseHeads(file.name, await file.text()));
      field.value = "";
    });
  return html`<section class="panel" aria-label="Heads">
    <h2>Heads</h2>
    <p>
      Take a head and keep the file where nobody who can write to the archive can change it. Later it proves that the
      events up to it are unchanged.
    </p>
    <div class="toolbar">
      <button onClick=${take}>Take a head</button>
      ${
        taken &&
        html`<button onClick=${() => save("head.json", "application/json", JSON.stringify(taken, null, 2))}>
            Save as a file
          </button>
          <button disabled=${check.isUnderWay} onClick=${() => check.start(taken)}>Check this head</button>`
      }
      <label>
        Check a head file
        <input type="file" accept=".json,application/json" disabled=${check.isUnderWay} onChange=${checkFile} />
      </label>
    </div>
    ${error && html`<${ErrorNotice} error=${error} />`} ${taken && html`<${Taken} heads=${taken} />`}
    <${JobState} state=${check} label="The check" />
    ${check.job?.result && html`<${Checked} result=${check.job.result} />`}
  </section>`;
}

/**
 * @param {string} name
 * @param {string} text
 */
function parseHeads(name, text) {
  try {
    return JSON.parse(text);
  } catch {
    throw new Error(`${name} is not a head file: it is not JSON.`);
  }
}

/** @param {{heads: any}} props */
function Taken({ heads }) {
  return html`<p role="status">Taken at ${heads.taken_at}, ${heads.signature ? "signed" : "not signed"}.</p>
    <${Table}
      caption="Heads of the logs"
      keyOf=${(/** @type {any} */ head) => head.log}
      rows=${heads.heads}
      columns=${[
        ...columns,
        { name: "hash", label: "Hash", show: (/** @type {any} */ head) => html`<code>${head.hash}</code>` },
      ]}
    />`;
}

const columns = [
  { name: "log", label: "Log", show: (/** @type {any} */ head) => head.log },
  { name: "position", label: "Position", numeric: true, show: (/** @type {any} */ head) => number(head.position) },
  { name: "recorded", label: "Recorded at", show: (/** @type {any} */ head) => head.recorded_at ?? "–" },
];

/** @param {{result: any}} props */
function Checked({ result }) {
  const verdict = result.ok
    ? "The present history extends these heads"
    : "The present history does not extend these heads, or their signature is not accepted";
  return html`<p class=${`notice ${result.ok ? "good" : "error"}`} role="status">
      ${`${verdict}. Taken at ${result.taken_at}; `} signature: ${result.signature}.
    </p>
    <${Table}
      caption="Checked heads"
      keyOf=${(/** @type {any} */ head) => head.log}
      rows=${result.heads}
      columns=${[
        ...columns,
        { name: "extends", label: "Extended", show: (/** @type {any} */ head) => (head.extends ? "yes" : "no") },
        { name: "detail", label: "Detail", show: (/** @type {any} */ head) => head.detail },
      ]}
    />`;
}
