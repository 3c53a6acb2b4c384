/** The overview: counts of the active patterns, detections per minute, and how fresh the service is. */
import { useEffect, useMemo, useState } from "preact/hooks";
import { send } from "../api.js";
import { Chart } from "../components/chart.js";
import { Figures } from "../components/figures.js";
import { AnswerNotice, Empty, LiveState } from "../components/notices.js";
import { duration, number, words } from "../format.js";
import { useAnswer, useLive, useNow, useThrottled } from "../hooks.js";
import { html } from "../html.js";
import { addressOf } from "../location.js";

/** Minutes that the chart of detections covers. */
const MINUTES = 30;

/** Shortest time between two updates, in milliseconds. */
const UPDATE_INTERVAL = 1_000;

/** Milliseconds after which the overview is loaded again, even if nothing has changed. */
const RELOAD_INTERVAL = 15_000;

/** Highest number of bars in a chart of counts. */
const MOST_BARS = 12;

export function Overview() {
  const statistics = useAnswer("api/patterns/stats", { interval: RELOAD_INTERVAL });
  const dashboard = useAnswer("api/dashboard/stats", { interval: RELOAD_INTERVAL });
  const sectors = useSectors();
  const [detections, countDetections] = useDetections();
  const update = useThrottled(() => {
    statistics.reload();
    dashboard.reload();
    countDetections();
  }, UPDATE_INTERVAL);
  const live = useLive("api/patterns/stream", "confidence_min=0", { onChanges: update, onReset: update });
  useEffect(countDetections, []);
  const counts = statistics.content?.statistics;
  return html`<div class="toolbar"><${LiveState} state=${live} /></div>
    <${AnswerNotice} answer=${statistics} />
    ${
      counts &&
      html`<${Summary} counts=${counts} dashboard=${dashboard.content?.statistics} />
        <section class="panel"><${DetectionChart} detections=${detections} /></section>
        <div class="cards">
          <${Bars} title="Types" counts=${counts.by_type} parameter="pattern_types" />
          <${Bars} title="Confidence" counts=${sorted(counts.by_confidence)} />
          <${Bars} title="Tiers" counts=${counts.by_tier} parameter="timeframe" />
          <${Bars} title="Symbols" counts=${counts.by_symbol} parameter="symbols" />
          <${Bars} title="Symbols of the catalogue by sector" counts=${sectors} parameter="sectors" />
          <${Bars} title="Events today" counts=${dashboard.content?.statistics?.by_type ?? {}} />
        </div>`
    }`;
}

/** The number of symbols of each sector. */
function useSectors() {
  return useAnswer("api/dashboard/stats").content?.symbols?.by_sector ?? {};
}

/**
 * The times of detection of the active patterns, as epoch seconds.
 * @returns {[number[], () => void]}
 */
function useDetections() {
  const [times, setTimes] = useState(/** @type {number[]} */ ([]));
  const count = async () => {
    const since = String(Date.now() / 1_000 - MINUTES * 60);
    const params = { detected_at_min: since, fields: "detected_at" };
    try {
      const response = await send("api/read-models/patterns", { params, headers: { Accept: "application/x-ndjson" } });
      const lines = (await response.text()).split("\n").filter(Boolean);
      setTimes(lines.map((line) => JSON.parse(line).detected_at));
    } catch {
      // The answer of the statistics shows the same problem. The chart keeps the last known detections.
    }
  };
  return [times, () => void count()];
}

/** @param {{detections: number[]}} props */
function DetectionChart({ detections }) {
  const minute = Math.floor(useNow() / 60);
  const data = useMemo(() => {
    const minutes = Array.from({ length: MINUTES }, (_, index) => minute - MINUTES + 1 + index);
    const counts = new Map(minutes.map((each) => [each, 0]));
    for (const time of detections) {
      const each = Math.floor(time / 60);
      if (counts.has(each)) counts.set(each, (counts.get(each) ?? 0) + 1);
    }
    return [minutes.map((each) => each * 60), [...counts.values()]];
  }, [detections, minute]);
  return html`<${Chart}
    label="Detections per minute, of the patterns that are still active"
    lines=${[{ label: "Detections", color: "#3b82f6", bars: true }]}
    data=${data}
  />`;
}

/** @param {{counts: any, dashboard: any}} props */
function Summary({ counts, dashboard }) {
  const now = useNow();
  const latest = Math.max(0, ...Object.values(dashboard?.latest ?? {}));
  /** @type {[string, any][]} */
  const figures = [
    ["Active patterns", number(counts.total)],
    ["With high confidence", number(counts.high_confidence)],
    ["Symbols", number(counts.symbols)],
    ["Events today", number(dashboard?.today?.events)],
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
