/** Dead letters: messages that could not be read, with the reason, the payload, and the commands retry and discard. */
import { useEffect, useState } from "preact/hooks";
import { load } from "../api.js";
import { AnswerNotice, Empty, ErrorNotice } from "../components/notices.js";
import { Table } from "../components/table.js";
import { dateTime, number } from "../format.js";
import { useAnswer } from "../hooks.js";
import { html } from "../html.js";

/** @param {{count: number}} props `count` changes when there are others. */
export function DeadLetters({ count }) {
  const [cursor, setCursor] = useState("");
  const answer = useAnswer(`api/dead-letters${cursor ? `?cursor=${encodeURIComponent(cursor)}` : ""}`);
  const [open, setOpen] = useState("");
  useEffect(() => answer.reload(), [count]);
  const letters = answer.content?.dead_letters ?? [];
  return html`<h2>Dead letters</h2>
    <${AnswerNotice} answer=${answer} />
    ${answer.content && letters.length === 0 && html`<${Empty}>There is no dead letter.<//>`}
    ${
      letters.length > 0 &&
      html`<${Table}
        caption="Messages that could not be read"
        keyOf=${(/** @type {any} */ letter) => letter.id}
        rows=${letters}
        open=${open}
        onOpen=${(/** @type {any} */ letter) => setOpen(letter.id === open ? "" : letter.id)}
        columns=${[
          { name: "received", label: "Received", show: (/** @type {any} */ letter) => dateTime(letter.received_at) },
          { name: "code", label: "Code", show: (/** @type {any} */ letter) => letter.code },
          { name: "channel", label: "Channel", show: (/** @type {any} */ letter) => letter.channel },
          { name: "via", label: "Way in", show: (/** @type {any} */ letter) => letter.via },
          { name: "times", label: "Times", numeric: true, show: (/** @type {any} */ letter) => number(letter.times) },
          { name: "reason", label: "Reason", show: (/** @type {any} */ letter) => letter.reason },
        ]}
      />`
    }
    <div class="toolbar">
      ${cursor && html`<button onClick=${() => setCursor("")}>First dead letters</button>`}
      ${answer.content?.next && html`<button onClick=${() => setCursor(answer.content.next)}>Further dead letters</button>`}
    </div>
    ${
      open &&
      html`<${DeadLetter}
        key=${open}
        id=${open}
        onEnd=${() => {
          setOpen("");
          answer.reload();
        }}
      />`
    }`;
}

/** @param {{id: string, onEnd: () => void}} props */
function DeadLetter({ id, onEnd }) {
  const path = `api/dead-letters/${encodeURIComponent(id)}`;
  const answer = useAnswer(path);
  const [error, setError] = useState(/** @type {any} */ (null));
  const command = async (/** @type {string} */ target, /** @type {string} */ method) => {
    try {
      await load(target, { method });
      onEnd();
    } catch (failure) {
      setError(failure);
    }
  };
  const letter = answer.content?.dead_letter;
  return html`<section class="panel letter" aria-label="Dead letter">
    <button class="close" onClick=${onEnd}>Close</button>
    <h2>Dead letter ${id}</h2>
    <${AnswerNotice} answer=${answer} />
    ${error && html`<${ErrorNotice} error=${error} />`}
    ${
      letter &&
      html`<p>${letter.reason}</p>
        <pre tabindex="0">${letter.payload}</pre>
        <div class="toolbar">
          <button onClick=${() => command(`${path}/retry`, "POST")}>Retry</button>
          <button onClick=${() => confirm("Discard this message for ever?") && command(path, "DELETE")}>Discard</button>
        </div>`
    }
  </section>`;
}
