/** Audit: the events of a stream, a pattern, a run or a list; verification of the archive; heads. */
import { html } from "../html.js";
import { changed, go } from "../location.js";
import { Heads } from "./audit_heads.js";
import { Timeline } from "./audit_timeline.js";
import { LastVerification, Verification } from "./audit_verification.js";

/** @param {{params: URLSearchParams}} props */
export function Audit({ params }) {
  const subject = params.get("of") ?? "";
  const user = params.get("user") ?? "";
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const fields = new FormData(/** @type {HTMLFormElement} */ (event.currentTarget));
    const text = (/** @type {string} */ name) => String(fields.get(name)).trim();
    go("audit", changed(new URLSearchParams(), { of: text("of"), user: text("user") }));
  };
  return html`<${LastVerification} />
    <form key=${`${subject} ${user}`} class="filters" onSubmit=${submit}>
      <label class="long">
        Stream, pattern, run or list
        <input name="of" defaultValue=${subject} required placeholder="symbol-AAPL" />
      </label>
      <label>Owner of the list <input name="user" defaultValue=${user} placeholder="you" /></label>
      <button>Look up</button>
    </form>
    ${subject && html`<${Timeline} key=${`${subject} ${user}`} subject=${subject} user=${user} />`}
    <${Verification} /> <${Heads} />`;
}
