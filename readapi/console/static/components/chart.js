/** A chart of values over time. */
import { useEffect, useRef } from "preact/hooks";
import uPlot from "uplot";
import { html } from "../html.js";

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
    const scales = [...new Set(lines.map((line) => line.scale ?? "y"))];
    const made = new uPlot(
      {
        width: element.clientWidth,
        height,
        series: [{}, ...lines.map(seriesOf)],
        axes: [axis, ...scales.map((scale, index) => ({ ...axis, scale, side: index ? 1 : 3 }))],
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
  return { label, scale, stroke: color, width: 2, fill: bars ? `${color}88` : undefined, paths, spanGaps: true };
}
