/** The overview: counts of the active patterns, detections per minute, and how fresh the service is. */
import { useMemo } from "preact/hooks";
import { Chart } from "../components/chart.js";
import { Figures } from "../components/figures.js";
import { AnswerNotice, Empty, LiveState } from "../components/notices.js";
import { duration, number, words } from "../format.js";
import { useAnswer, useFollowed, useNow } from "../hooks.js";
import { html } from "../html.js";
import { addressOf } from "../location.js";

/** Shortest time between two updates, in milliseconds. */
const UPDATE_INTERVAL = 1_000;

/** Milliseconds after which the overview is loaded again, even if nothing has changed. */
const RELOAD_INTERVAL = 15_000;

/** Highest number of bars in a chart of counts. */
const MOST_BARS = 12;

const DETECTIONS = [{ label: "Detections", color: "#3b82f6", bars: true }];

export function Overview() {
  const statistics = useAnswer("api/patterns/stats", { interval: RELOAD_INTERVAL });
  const dashboard = useAnswer("api/dashboard/stats", { interval: RELOAD_INTERVAL });
  const push = { stream: "api/patterns/stream", query: "confidence_min=0", interval: UPDATE_INTERVAL };
  const { live } = useFollowed(push, async (position) => {
    const succeeded = await Promise.all([statistics.read(position), dashboard.read(position)]);
    return succeeded.every(Boolean);
  });
  const counts = statistics.content?.statistics;
  const events = dashboard.content?.statistics;
  return html`<div class="toolbar"><${LiveState} state=${live} /></div>
    <${AnswerNotice} answer=${statistics} />
    ${
      counts &&
      html`<${Summary} counts=${counts} events=${events} />
        <section class="panel"><${DetectionChart} minutes=${events?.by_minute} /></section>
        <div class="cards">
          <${Bars} title="Types" counts=${counts.by_type} parameter="pattern_types" />
          <${Bars} title="Confidence" counts=${sorted(counts.by_confidence)} />
          <${Bars} title="Tiers" counts=${counts.by_tier} parameter="timeframe" />
          <${Bars} title="Sectors" counts=${counts.by_sector ?? {}} parameter="sectors" />
          <${Bars} title="Symbols" counts=${counts.by_symbol} parameter="symbols" />
          <${Bars} title="Events in 7 days" counts=${events?.by_type ?? {}} />
        </div>`
    }`;
}

/** @param {{minutes: {minute: number, detections: number}[] | undefined}} props */
function DetectionChart({ minutes = [] }) {
  const data = useMemo(() => [minutes.map((each) => each.minute), minutes.map((each) => each.detections)], [minutes]);
  return html`<${Chart} label="Detections per minute" lines=${DETECTIONS} data=${data} />`;
}

/** @param {{counts: any, events: any}} props */
function Summary({ counts, events }) {
  const now = useNow();
  const latest = Math.max(0, ...Object.values(events?.latest ?? {}));
  /** @type {[string, any][]} */
  const figures = [
    ["Active patterns", number(counts.total)],
    ["With high confidence", number(counts.high_confidence)],
    ["Symbols", number(counts.symbols)],
    ["Events today", number(events?.today.events)],
    ["Age of the latest event", latest ? duration(now - latest) : "–"],
  ];
  return html`<${Figures} figures=${figures} />`;
}

/** @param {{title: string, counts: Record<string, number>, parameter?: string}} props */
function Bars({ title, counts, parameter }) {
  const entries = Object.entries(counts).slice(0, MOST_BARS);
  const highest = Math.max(1, ...entries.map(([, count]) => count));
  return html`<section class="panel">
    <h2>${title}</h2>
    ${entries.length === 0 && html`<${Empty}>Nothing to count yet.<//>`}
    <ul class="bars">
      ${entries.map(
        ([name, count]) =>
          html`<li key=${name}>
            <span class="name" title=${name}>
              ${
                parameter
                  ? html`<a href=${addressOf("scanner", new URLSearchParams({ [parameter]: name }))}>${words(name)}</a>`
                  : words(name)
              }
            </span>
            <span><span class="bar" style=${{ display: "block", width: `${(100 * count) / highest}%` }}></span></span>
            <span class="count">${number(count)}</span>
          </li>`,
      )}
    </ul>
  </section>`;
}

/** @param {Record<string, number>} counts */
function sorted(counts) {
  return Object.fromEntries(Object.entries(counts).sort(([one], [other]) => (one < other ? 1 : -1)));
}
