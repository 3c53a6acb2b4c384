/** Live push: server-sent events, read with `fetch`, because an `EventSource` cannot send the token in a header. */
import { ApiError, send } from "./api.js";

/** Milliseconds without any message after which the connection counts as lost. Heartbeats come every 15 seconds. */
const SILENCE = 40_000;

/** Highest number of milliseconds before the next attempt to connect. */
const LONGEST_PAUSE = 5_000;

/** Status of a server that cannot push. */
const NO_LIVE_PUSH = 501;

/**
 * @typedef {object} Message
 * @property {string} type
 * @property {string} [id]
 * @property {string} [position]
 * @property {boolean} [stale]
 * @property {boolean} [resumed]
 * @property {{op: string, id?: string, row?: any, pattern?: any, backtest?: any}[]} [changes]
 */

/** @typedef {"connecting" | "live" | "stale" | "reconnecting" | "refused"} LiveState */

/**
 * @typedef {object} Handlers
 * @property {(message: Message) => void} onChanges Called for each message `changes`.
 * @property {() => void} onReset Called if changes are missing: read the rows again.
 * @property {(state: LiveState) => void} onState
 */

/**
 * Follow the changes of read models. Connect again after each loss, and resume after the last message.
 * @param {string} path
 * @param {URLSearchParams} params
 * @param {Handlers} handlers
 * @returns {() => void} Ends the connection.
 */
export function follow(path, params, handlers) {
  const ended = new AbortController();
  void followUntil(ended.signal, path, params, handlers);
  return () => ended.abort();
}

/**
 * @param {AbortSignal} ended
 * @param {string} path
 * @param {URLSearchParams} params
 * @param {Handlers} handlers
 */
async function followUntil(ended, path, params, handlers) {
  let lastId = "";
  let failures = 0;
  handlers.onState("connecting");
  while (!ended.aborted) {
    const attempt = new AbortController();
    const abort = () => attempt.abort();
    ended.addEventListener("abort", abort, { once: true });
    try {
      const wanted = new URLSearchParams(params);
      if (lastId) wanted.set("last_event_id", lastId);
      const response = await send(path, { params: wanted, signal: attempt.signal });
      for await (const message of messagesOf(response, attempt)) {
        failures = 0;
        lastId = message.id ?? lastId;
        receive(message, handlers);
      }
    } catch (error) {
      if (ended.aborted) return;
      if (isRefusal(error) && !lastId) {
        handlers.onState("refused");
        return;
      }
      if (isRefusal(error)) lastId = "";
    } finally {
      ended.removeEventListener("abort", abort);
      attempt.abort();
    }
    if (ended.aborted) return;
    handlers.onState("reconnecting");
    if (!lastId) handlers.onReset();
    failures += 1;
    await pause(Math.min(LONGEST_PAUSE, 250 * 2 ** failures) * (0.5 + Math.random() / 2));
  }
}

/**
 * @param {Message} message
 * @param {Handlers} handlers
 */
function receive(message, handlers) {
  if (message.type === "changes") handlers.onChanges(message);
  else if (message.type === "reset") handlers.onReset();
  handlers.onState(message.stale ? "stale" : "live");
}

/** @param {unknown} error */
function isRefusal(error) {
  if (!(error instanceof ApiError)) return false;
  return error.status === NO_LIVE_PUSH || (error.status >= 400 && error.status < 500 && error.status !== 429);
}

/**
 * Read the messages of a stream of server-sent events.
 * @param {Response} response
 * @param {AbortController} attempt Aborted after a silence.
 * @returns {AsyncGenerator<Message>}
 */
async function* messagesOf(response, attempt) {
  const body = /** @type {ReadableStream<any>} */ (response.body);
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let buffer = "";
  while (true) {
    const silence = setTimeout(() => attempt.abort(), SILENCE);
    const { done, value } = await reader.read().finally(() => clearTimeout(silence));
    if (done) return;
    const events = (buffer + value).split("\n\n");
    buffer = events.pop() ?? "";
    for (const event of events) {
      const data = event.split("\n").find((line) => line.startsWith("data: "));
      if (data) yield JSON.parse(data.slice("data: ".length));
    }
  }
}

/** @param {number} milliseconds */
function pause(milliseconds) {
  return new Promise((resolve) => setTimeout(resolve, milliseconds));
}
