/** The events of a stream, a pattern, a run or a list, each with the values before and after it. */
import { useState } from "preact/hooks";
import { load } from "../api.js";
import { AnswerNotice, ErrorNotice } from "../components/notices.js";
import { dateTime, value } from "../format.js";
import { useAnswer } from "../hooks.js";
import { html } from "../html.js";
import { addressOf } from "../location.js";

const STREAM = /^(symbol|universe|backtest|source|user|alerts|log)-|^operations$/;
const PATTERN = /^(.+):([^:]+):([^:]+):([0-9]+)$/;
const LIST = /^[0-9a-f]{32}$/;

/** Members of the data that the event shows elsewhere. */
const SHOWN = ["occurred_at", "source", "correlation_id", "symbol", "job_id", "user", "list_id"];

/**
 * Return the path that has the events of a subject.
 * @param {string} subject
 * @param {string} user The owner of a list. Empty: the client.
 */
function pathOf(subject, user) {
  const name = encodeURIComponent(subject);
  if (STREAM.test(subject)) return `api/audit/streams/${name}?limit=100`;
  if (PATTERN.test(subject)) return `api/audit/patterns/${name}`;
  if (LIST.test(subject)) return `api/audit/lists/${name}?limit=100${user ? `&user=${encodeURIComponent(user)}` : ""}`;
  return `api/audit/streams/backtest-${name}?limit=100`;
}

/** @param {{subject: string, user: string}} props */
export function Timeline({ subject, user }) {
  const path = pathOf(subject, user);
  const answer = useAnswer(path);
  const [further, setFurther] = useState(/** @type {{events: any[], next: string | null}[]} */ ([]));
  const [error, setError] = useState(/** @type {any} */ (null));
  const next = further.length ? further[further.length - 1].next : (answer.content?.next ?? null);
  const more = async () => {
    try {
      const page = await load(`${path}&cursor=${encodeURIComponent(next)}`);
      setFurther((pages) => [...pages, page]);
      setError(null);
    } catch (failure) {
      setError(failure);
    }
  };
  const events = [...(answer.content?.events ?? []), ...further.flatMap((page) => page.events)];
  return html`<section aria-label=${`Events of ${subject}`}>
    <h2>Events of ${subject}</h2>
    <${AnswerNotice} answer=${answer} />
    <ol class="timeline">
      ${withChanges(events).map(
        ({ event, changes }) =>
          html`<${TimelineEvent} key=${`${event.log}=${event.position}`} event=${event} changes=${changes} />`,
      )}
    </ol>
    ${error && html`<${ErrorNotice} error=${error} />`} ${next && html`<button onClick=${more}>Further events</button>`}
  </section>`;
}

/** @param {{event: any, changes: [string, unknown, unknown][]}} props */
function TimelineEvent({ event, changes }) {
  const { origin } = event;
  const sender = origin?.subject ? ` of ${origin.subject}` : "";
  const listed = event.data?.list_id;
  return html`<li>
    <p>
      <strong>${event.type}</strong> ${` ${dateTime(event.recorded_at)}, `} <code>${event.log}=${event.position}</code>,
      version ${event.version}, from
      ${` ${event.source ?? "an unknown source"}, by ${origin?.via ?? "an unknown way"}${sender}`}
    </p>
    ${
      listed &&
      html`<p>
        List <a href=${addressOf("audit", new URLSearchParams({ of: listed, user: event.data.user }))}>${listed}</a>
      </p>`
    }
    ${event.forgotten && html`<p>The content was forgotten.</p>`}
    ${
      changes.length > 0 &&
      html`<table class="changes" aria-label="Changes">
        <thead>
          <tr>
            <th scope="col">Field</th>
            <th scope="col">Before</th>
            <th scope="col">After</th>
          </tr>
        </thead>
        <tbody>
          ${changes.map(
            ([name, before, after]) =>
              html`<tr key=${name}>
                <th scope="row">${name}</th>
                <td>${before === undefined ? "–" : html`<del>${shown(name, before)}</del>`}</td>
                <td><ins>${shown(name, after)}</ins></td>
              </tr>`,
          )}
        </tbody>
      </table>`
    }
    <p class="hash">Hash <code>${event.hash ?? "not archived yet"}</code></p>
  </li>`;
}

/**
 * Show a value of an event. The names of times end with `_at`.
 * @param {string} name
 * @param {unknown} content
 */
function shown(name, content) {
  return value(content, name.endsWith("_at") ? "epoch seconds" : null);
}

/**
 * Compare each event with the events before it that are about the same pattern, run or list.
 * @param {any[]} events
 * @returns {{event: any, changes: [string, unknown, unknown][]}[]}
 */
function withChanges(events) {
  /** @type {Map<string, Record<string, unknown>>} */
  const known = new Map();
  return events.map((event) => {
    const key = ["pattern", "detected_at", "list_id"].map((name) => event.data?.[name] ?? "").join(":");
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
