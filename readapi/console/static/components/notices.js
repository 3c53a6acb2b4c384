/** Notices: what a view shows instead of content, or above old content. */
import { ApiError } from "../api.js";
import { html } from "../html.js";
import { duration } from "../format.js";

/**
 * The state of an answer: loading, failed, signed out, without permission. Nothing if all is well.
 * @param {{answer: {content: any, error: Error | null, loading: boolean}}} props
 */
export function AnswerNotice({ answer }) {
  if (answer.loading) return html`<p class="notice" role="status">Loading…</p>`;
  if (answer.error) return html`<${ErrorNotice} error=${answer.error} isOld=${answer.content !== null} />`;
  if (answer.content?.stale) return html`<${StaleNotice} seconds=${answer.content.age_seconds} />`;
  return null;
}

/** @param {{error: Error, isOld?: boolean}} props */
export function ErrorNotice({ error, isOld = false }) {
  const status = error instanceof ApiError ? error.status : -1;
  if (status === 401) {
    return html`<p class="notice" role="alert">
      You are signed out, or the token is not valid. Sign in with a token.
    </p>`;
  }
  if (status === 403) {
    const scope = /** @type {ApiError} */ (error).scope;
    const need = scope ? ` A token with the scope “${scope}” is needed.` : ` ${error.message}`;
    return html`<p class="notice" role="alert">You have no permission to see this.${need}</p>`;
  }
  const old = isOld ? " The content below is the last known." : "";
  return html`<p class="notice error" role="alert">${error.message}${old}</p>`;
}

/** @param {{seconds: number | null}} props */
function StaleNotice({ seconds }) {
  const since = seconds === null ? "" : ` for ${duration(seconds)}`;
  return html`<p class="notice warning" role="status">Redis has been away${since}. The content may be old.</p>`;
}

/** @param {{children: any}} props */
export function Empty({ children }) {
  return html`<p class="notice" role="status">${children}</p>`;
}

const LIVE = {
  off: "not live",
  connecting: "connecting",
  live: "live",
  stale: "stale: Redis is away",
  reconnecting: "reconnecting",
  refused: "not live: refused",
};

/** @param {{state: keyof typeof LIVE}} props */
export function LiveState({ state }) {
  return html`<span class="live" data-state=${state} role="status">${LIVE[state]}</span>`;
}

/** @param {{status: string}} props */
export function Status({ status }) {
  return html`<span class="status ${status}">${status}</span>`;
}
