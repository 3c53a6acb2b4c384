/** A chart of values over time. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { timeOf } from "../format.js";
import { html } from "../html.js";

/** Seconds between two marks of the time. */
const INCREMENTS = [1, 5, 10, 30, 60, 300, 600, 1_800, 3_600, 6 * 3_600, 86_400, 7 * 86_400];

/** The scale of bars begins at 0, because their lengths are compared. */
const FROM_ZERO = {
  range: (/** @type {any} */ _, /** @type {number} */ _low, /** @type {number} */ high) =>
    /** @type {[number, number]} */ ([0, Math.max(1, 1.1 * high)]),
};

/** @typedef {{label: string, color: string, scale?: string, bars?: boolean}} Line */

/**
 * @param {{label: string, lines: Line[], data: (number | null)[][], height?: number}} props
 *   `data` has the epoch seconds first, and then the values of each line.
 */
export function Chart({ label, lines, data, height = 200 }) {
  const place = useRef(/** @type {HTMLDivElement | null} */ (null));
  const chart = useRef(/** @type {uPlot | null} */ (null));
  const shape = JSON.stringify(lines);
  useEffect(() => {
    const element = /** @type {HTMLDivElement} */ (place.current);
    const text = getComputedStyle(element).color;
    const axis = { stroke: text, grid: { stroke: "#8884", width: 1 }, ticks: { stroke: "#8884", width: 1 } };
    // Room for half a bar at both ends.
    const range = (/** @type {uPlot} */ { data }, /** @type {number} */ low, /** @type {number} */ high) => {
      const half = lines.some((line) => line.bars) ? (high - low) / Math.max(1, 2 * (data[0].length - 1)) : 0;
      return /** @type {[number, number]} */ ([low - half, high + half]);
    };
    const time = {
      ...axis,
      size: 32,
      incrs: INCREMENTS,
      values: (/** @type {any} */ _, /** @type {number[]} */ times) => times.map(timeOf),
    };
    const scales = [...new Set(lines.map((line) => line.scale ?? "y"))];
    const made = new uPlot(
      {
        width: element.clientWidth,
        height,
        series: [{}, ...lines.map(seriesOf)],
        scales: { x: { range }, ...(lines.some((line) => line.bars) ? { y: FROM_ZERO } : {}) },
        legend: { show: lines.length > 1 },
        axes: [time, ...scales.map((scale, index) => ({ ...axis, scale, side: index ? 1 : 3 }))],
      },
      /** @type {any} */ (data),
      element,
    );
    chart.current = made;
    const resize = new ResizeObserver(() => made.setSize({ width: element.clientWidth, height }));
    resize.observe(element);
    return () => {
      resize.disconnect();
      made.destroy();
      chart.current = null;
    };
  }, [shape, height]);
  useEffect(() => chart.current?.setData(/** @type {any} */ (data)), [data]);
  return html`<figure class="chart" role="img" aria-label=${label}>
    <figcaption>${label}</figcaption>
    <div ref=${place}></div>
  </figure>`;
}

/** @param {Line} line */
function seriesOf({ label, color, scale = "y", bars }) {
  const paths = bars ? uPlot.paths.bars?.({ size: [0.8, 40] }) : undefined;
  const fill = bars ? `${color}88` : undefined;
  return { label, scale, stroke: color, width: 2, fill, paths, points: { show: !bars }, spanGaps: true };
}
