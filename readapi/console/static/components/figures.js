/** Named figures. */
import { html } from "../html.js";

/**
 * A list of names with their values.
 * @param {{figures: [string, any][]}} props
 */
export function Figures({ figures }) {
  return html`<dl class="figures">
    ${figures.map(
      ([name, value]) =>
        html`<div key=${name}>
          <dt>${name}</dt>
          <dd>${value}</dd>
        </div>`,
    )}
  </dl>`;
}
