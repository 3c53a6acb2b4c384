/** The detail of a pattern: its remaining life, its confidence and price over time, and its events. */
import { useEffect, useMemo } from "preact/hooks";
import { Chart } from "../components/chart.js";
import { Figures } from "../components/figures.js";
import { AnswerNotice, Empty } from "../components/notices.js";
import { dateTime, number, percent, remaining } from "../format.js";
import { useAnswer, useNow } from "../hooks.js";
import { html } from "../html.js";

const LINES = [
  { label: "Confidence", color: "#3b82f6" },
  { label: "Price", color: "#e07b00", scale: "price" },
];

/** @param {{id: string, position: string, onClose: () => void}} props `position` changes with the pattern. */
export function PatternDetail({ id, position, onClose }) {
  const answer = useAnswer(`api/patterns/${encodeURIComponent(id)}`, { interval: 5_000 });
  useEffect(answer.reload, [position]);
  const { pattern, events } = answer.content ?? {};
  return html`<section class="panel drawer detail" aria-label=${`Pattern ${id}`}>
    <button class="close" onClick=${onClose}>Close</button>
    <h2>${pattern ? `${pattern.symbol}: ${pattern.pattern_type}` : id}</h2>
    ${
      answer.error && "status" in answer.error && answer.error.status === 404
        ? html`<${Empty}>The pattern is no longer active.<//>`
        : html`<${AnswerNotice} answer=${answer} />`
    }
    ${pattern && html`<${Facts} pattern=${pattern} />`} ${pattern && html`<${Events} events=${events} />`}
  </section>`;
}

/** @param {{pattern: any}} props */
function Facts({ pattern }) {
  const now = useNow();
  /** @type {[string, any][]} */
  const figures = [
    ["Remaining life", remaining(pattern.expires_at, now)],
    ["Confidence", percent(pattern.confidence)],
    ["Price", number(pattern.current_price)],
    ["RSI", number(pattern.rsi)],
    ["Tier", pattern.tier],
    ["Detected", dateTime(pattern.detected_at)],
    ["Source", pattern.producer],
  ];
  return html`<${Figures} figures=${figures} />`;
}

/** @param {{events: any[] | null}} props */
function Events({ events }) {
  const count = events?.length ?? 0;
  const data = useMemo(() => {
    const known = (events ?? []).filter((event) => event.data?.confidence !== undefined);
    return [
      known.map((event) => event.occurred_at),
      known.map((event) => event.data.confidence),
      known.map((event) => event.data.current_price ?? null),
    ];
  }, [count]);
  if (events === null) return html`<${Empty}>The archive cannot be reached. The events are not known.<//>`;
  return html`${
      data[0].length > 0 && html`<${Chart} label="Confidence and price over time" lines=${LINES} data=${data} />`
    }
    <h2>Events</h2>
    <ol>
      ${events.map(
        (event) =>
          html`<li key=${`${event.log}=${event.position}`}>
            <strong>${event.type}</strong> at ${dateTime(event.recorded_at)}, position
            <code> ${event.log}=${event.position}</code>, from ${event.source ?? "an unknown source"} by
            ${` ${event.origin?.via ?? "an unknown way"}`}, hash
            <code> ${event.hash ? event.hash.slice(0, 16) : "not archived yet"}</code>
          </li>`,
      )}
    </ol>`;
}
