/** Jobs: long work that an operator starts, with its progress until its end. */
import { useEffect, useState } from "preact/hooks";
import { load } from "../api.js";
import { dateTime, number } from "../format.js";
import { useAnswer } from "../hooks.js";
import { html } from "../html.js";
import { AnswerNotice, ErrorNotice } from "./notices.js";

/** Milliseconds between two looks at a job that is under way. */
const INTERVAL = 500;

/**
 * @typedef {object} Job
 * @property {number} started_at
 * @property {number | null} finished_at
 * @property {number} percent
 * @property {{name: string, done: number, total: number}[]} parts
 * @property {string | null} error
 */

/**
 * The last job of a path, followed until its end, and the command that starts another one.
 * @param {string} path
 * @param {string} member The member of the answer that has the job.
 */
export function useJob(path, member) {
  const [isUnderWay, setUnderWay] = useState(false);
  const [error, setError] = useState(/** @type {any} */ (null));
  const answer = useAnswer(path, { interval: isUnderWay ? INTERVAL : 0 });
  /** @type {any} */
  const job = answer.content?.[member] ?? null;
  useEffect(() => setUnderWay(job !== null && job.finished_at === null), [job]);
  const start = async (/** @type {unknown} */ body) => {
    try {
      await load(path, { method: "POST", body });
      setError(null);
    } catch (failure) {
      setError(failure);
    }
    answer.reload();
  };
  return { answer, job, error, isUnderWay, start };
}

/**
 * The state of a job: what prevents it, the progress of its parts, or its end. The result is shown by the view.
 * @param {{state: ReturnType<typeof useJob>, label: string}} props
 */
export function JobState({ state, label }) {
  const { answer, job, error, isUnderWay } = state;
  return html`<${AnswerNotice} answer=${answer} /> ${error && html`<${ErrorNotice} error=${error} />`}
    ${job?.error && html`<p class="notice error" role="alert">${label} failed: ${job.error}</p>`}
    ${job && isUnderWay && html`<${Progress} job=${job} label=${label} />`}
    ${job?.finished_at && !job.error && html`<p role="status">${label} ended at ${dateTime(job.finished_at)}.</p>`}`;
}

/** @param {{job: Job, label: string}} props */
function Progress({ job, label }) {
  return html`<div role="status">
    <p>${label} is under way since ${dateTime(job.started_at)}.</p>
    <ul class="progress">
      ${job.parts.map(
        ({ name, done, total }) =>
          html`<li key=${name}>
            <span class="name">${name}</span>
            <progress max=${Math.max(total, 1)} value=${done} aria-label=${`${label}: ${name}`}></progress>
            <span>${number(done)} of ${number(total)}</span>
          </li>`,
      )}
    </ul>
  </div>`;
}
