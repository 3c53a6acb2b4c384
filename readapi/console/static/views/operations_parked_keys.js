/** The parked keys of a read model: rows whose events could not be folded. */
import { useState } from "preact/hooks";
import { load } from "../api.js";
import { AnswerNotice, Empty, ErrorNotice } from "../components/notices.js";
import { dateTime, number } from "../format.js";
import { useAnswer } from "../hooks.js";
import { html } from "../html.js";

/** @param {{model: string, onClose: () => void}} props */
export function ParkedKeys({ model, onClose }) {
  const path = `api/projections/${encodeURIComponent(model)}/parked`;
  const answer = useAnswer(path, { interval: 5_000 });
  const [error, setError] = useState(/** @type {any} */ (null));
  const retry = async (/** @type {string} */ key) => {
    try {
      await load(`${path}/${encodeURIComponent(key)}/retry`, { method: "POST" });
      setError(null);
      answer.reload();
    } catch (failure) {
      setError(failure);
    }
  };
  /** @type {any[]} */
  const keys = answer.content?.parked ?? [];
  return html`<section class="panel" aria-label=${`Parked keys of ${model}`}>
    <button class="close" onClick=${onClose}>Close</button>
    <h2>Parked keys of ${model}</h2>
    <${AnswerNotice} answer=${answer} />
    ${error && html`<${ErrorNotice} error=${error} />`}
    ${answer.content && keys.length === 0 && html`<${Empty}>No key is parked.<//>`}
    <ul>
      ${keys.map(
        (parked) =>
          html`<li key=${`${parked.log}/${parked.key}`}>
            <code>${parked.key}</code>: ${parked.error}
            <p>
              ${number(parked.events)} events wait since ${dateTime(parked.since)}, the first is
              <code> ${parked.log}=${parked.position}</code>.
            </p>
            <button aria-label=${`Retry ${parked.key}`} onClick=${() => retry(parked.key)}>Retry</button>
          </li>`,
      )}
    </ul>
  </section>`;
}
