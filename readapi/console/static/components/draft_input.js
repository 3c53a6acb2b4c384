/** An input that keeps the user's entry while the page around it is rendered again. */
import { useLayoutEffect, useState } from "preact/hooks";
import { html } from "../html.js";

/**
 * @typedef {object} DraftInputProps
 * @property {string} value The confirmed value. A change of it replaces the entry.
 * @property {(value: string) => void} onConfirm Called when the user confirms the entry, without the white space around
 *   it: with Enter, or by leaving the input.
 */

/** @param {DraftInputProps & Record<string, any>} props Further properties are those of `<input>`. */
export function DraftInput({ value, onConfirm, ...attributes }) {
  const [entry, setEntry] = useState(value);
  useLayoutEffect(() => setEntry(value), [value]);
  return html`<input
    ...${attributes}
    value=${entry}
    onInput=${(/** @type {any} */ event) => setEntry(event.target.value)}
    onChange=${(/** @type {any} */ event) => onConfirm(event.target.value.trim())}
  />`;
}
