/** Hooks that views share: answers of the API that stay current, live push, the clock. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, load, onSignIn } from "./api.js";
import { follow } from "./live.js";

/** Milliseconds before a failed request without an answer is sent again. */
const RETRY = 2_000;

/**
 * @template T
 * @typedef {object} Answer
 * @property {T | null} content The last content, also after a later request has failed.
 * @property {Error | null} error The error of the last request.
 * @property {boolean} loading Whether the first content is on its way.
 * @property {() => void} reload
 */

/**
 * Load a path of the API, again after each change of the path or the token, and every `interval` milliseconds.
 * @param {string | null} path The path with its query. Null loads nothing.
 * @param {{interval?: number}} [options]
 * @returns {Answer<any>}
 */
export function useAnswer(path, { interval = 0 } = {}) {
  const [state, setState] = useState({ path, content: /** @type {any} */ (null), error: /** @type {any} */ (null) });
  const reload = useRef(() => {});
  useEffect(() => {
    if (path === null) return;
    const ended = new AbortController();
    let timer = 0;
    const run = async () => {
      clearTimeout(timer);
      let wait = interval;
      try {
        const content = await load(path, { signal: ended.signal });
        if (!ended.signal.aborted) setState({ path, content, error: null });
      } catch (error) {
        if (ended.signal.aborted) return;
        setState((last) => ({ path, content: mayKeep(error) && last.path === path ? last.content : null, error }));
        if (!(error instanceof ApiError) || error.status === 0 || error.status >= 500) wait = interval || RETRY;
      }
      if (wait && !ended.signal.aborted) timer = window.setTimeout(run, wait);
    };
    reload.current = run;
    const forget = onSignIn(run);
    void run();
    return () => {
      ended.abort();
      clearTimeout(timer);
      forget();
    };
  }, [path, interval]);
  const isCurrent = state.path === path;
  const content = isCurrent ? state.content : null;
  const error = isCurrent ? state.error : null;
  return { content, error, loading: path !== null && !content && !error, reload: () => reload.current() };
}

/**
 * Whether the last known content may stay on the page. It must not outlive the permission to see it.
 * @param {unknown} error
 */
export function mayKeep(error) {
  return !(error instanceof ApiError && [401, 403].includes(error.status));
}

/**
 * Follow live push while the component is shown. The handlers may change without a new connection.
 * @param {string | null} path Null follows nothing.
 * @param {string} query The parameters.
 * @param {{onChanges: (message: import("./live.js").Message) => void, onReset: () => void}} handlers
 * @returns {import("./live.js").LiveState | "off"}
 */
export function useLive(path, query, handlers) {
  const latest = useRef(handlers);
  latest.current = handlers;
  const [state, setState] = useState(/** @type {import("./live.js").LiveState | "off"} */ ("off"));
  const [session, setSession] = useState(0);
  useEffect(() => onSignIn(() => setSession((number) => number + 1)), []);
  useEffect(() => {
    if (path === null) {
      setState("off");
      return undefined;
    }
    return follow(path, new URLSearchParams(query), {
      onChanges: (message) => latest.current.onChanges(message),
      onReset: () => latest.current.onReset(),
      onState: setState,
    });
  }, [path, query, session]);
  return state;
}

/**
 * Return a function that calls `action` at most once in `milliseconds`, and always once more after the last call.
 * @param {() => void} action
 * @param {number} milliseconds
 */
export function useThrottled(action, milliseconds) {
  const latest = useRef(action);
  latest.current = action;
  const timer = useRef(0);
  const last = useRef(0);
  useEffect(() => () => clearTimeout(timer.current), []);
  return useCallback(() => {
    if (timer.current) return;
    const wait = Math.max(0, last.current + milliseconds - Date.now());
    timer.current = window.setTimeout(() => {
      timer.current = 0;
      last.current = Date.now();
      latest.current();
    }, wait);
  }, [milliseconds]);
}

/** Return the time in epoch seconds, again every second. */
export function useNow() {
  const [now, setNow] = useState(Date.now() / 1_000);
  useEffect(() => {
    const timer = setInterval(() => setNow(Date.now() / 1_000), 1_000);
    return () => clearInterval(timer);
  }, []);
  return now;
}
