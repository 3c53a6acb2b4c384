/** Audit: the events of a stream, a pattern or a backtest, with what each of them changed; the last verification. */
import { useState } from "preact/hooks";
import { load } from "../api.js";
import { AnswerNotice, Empty, ErrorNotice, Status } from "../components/notices.js";
import { dateTime, number, value } from "../format.js";
import { useAnswer } from "../hooks.js";
import { html } from "../html.js";
import { go } from "../location.js";

const STREAM = /^(symbol|universe|backtest|source|user|log)-|^operations$/;
const PATTERN = /^(.+):([^:]+):([^:]+):([0-9]+)$/;

/** Members of the data that the event shows elsewhere. */
const SHOWN = ["occurred_at", "source", "correlation_id", "symbol", "job_id"];

/** @param {{params: URLSearchParams}} props */
export function Audit({ params }) {
  const subject = params.get("of") ?? "";
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    const field = /** @type {HTMLInputElement} */ (form.elements.namedItem("of"));
    go("audit", new URLSearchParams({ of: field.value.trim() }));
  };
  return html`<${Verification} />
    <form class="filters" onSubmit=${submit}>
      <label
        >Stream, pattern or run <input name="of" defaultValue=${subject} required placeholder="symbol-AAPL"
      /></label>
      <button>Look up</button>
    </form>
    ${subject && html`<${Timeline} key=${subject} subject=${subject} />`}`;
}

/** The result of the last verification of the archive. */
function Verification() {
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

/**
 * Return the path that has the events of a subject.
 * @param {string} subject
 */
function pathOf(subject) {
  const name = encodeURIComponent(subject);
  if (STREAM.test(subject)) return `api/audit/streams/${name}?limit=100`;
  return PATTERN.test(subject) ? `api/patterns/${name}` : `api/audit/streams/backtest-${name}?limit=100`;
}

/** @param {{subject: string}} props */
function Timeline({ subject }) {
  const path = pathOf(subject);
  const answer = useAnswer(path);
  const [further, setFurther] = useState(/** @type {{events: any[], next: string | null}[]} */ ([]));
  const [error, setError] = useState(/** @type {any} */ (null));
  const next = further.length ? further[further.length - 1].next : (answer.content?.next ?? null);
  const more = async () => {
    try {
      const page = await load(`${path}&cursor=${encodeURIComponent(next)}`);
      setFurther((pages) => [...pages, page]);
    } catch (failure) {
      setError(failure);
    }
  };
  const events = [...(answer.content?.events ?? []), ...further.flatMap((page) => page.events)];
  const [, symbol] = PATTERN.exec(subject) ?? [];
  return html`<h2>Events of ${subject}</h2>
    <${AnswerNotice} answer=${answer} />
    ${
      answer.error &&
      symbol &&
      html`<${Empty}>A pattern that is no longer active is in the stream symbol-${symbol}.<//>`
    }
    <ol class="timeline">
      ${withChanges(events).map(
        ({ event, changes }) =>
          html`<li key=${`${event.log}=${event.position}`}>
            <strong>${event.type}</strong> ${` ${dateTime(event.recorded_at)}, `}
            <code>${event.log}=${event.position}</code>, version ${event.version}, from
            ${` ${event.source ?? "an unknown source"}, by ${event.origin?.via ?? "an unknown way"}`}, hash
            <code> ${event.hash ?? "not archived yet"}</code>
            ${event.forgotten && html`<p>The content was forgotten.</p>`}
            <ul>
              ${changes.map(
                ([name, before, after]) =>
                  html`<li key=${name}>
                    ${name}: ${before === undefined ? "" : `${value(before)} → `}${value(after)}
                  </li>`,
              )}
            </ul>
          </li>`,
      )}
    </ol>
    ${error && html`<${ErrorNotice} error=${error} />`} ${next && html`<button onClick=${more}>Further events</button>`}`;
}

/**
 * Compare each event with the events before it that are about the same pattern, or about the same run.
 * @param {any[]} events
 * @returns {{event: any, changes: [string, unknown, unknown][]}[]}
 */
function withChanges(events) {
  /** @type {Map<string, Record<string, unknown>>} */
  const known = new Map();
  return events.map((event) => {
    const key = `${event.data?.pattern ?? ""}:${event.data?.detected_at ?? ""}`;
    const before = known.get(key) ?? {};
    const after = Object.entries(event.data ?? {}).filter(([name]) => !SHOWN.includes(name));
    known.set(key, { ...before, ...Object.fromEntries(after) });
    /** @type {[string, unknown, unknown][]} */
    const changes = after
      .filter(([name, content]) => JSON.stringify(content) !== JSON.stringify(before[name]))
      .map(([name, content]) => [name, before[name], content]);
    return { event, changes };
  });
}
