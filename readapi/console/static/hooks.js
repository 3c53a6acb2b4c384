/** Hooks that views share: answers of the API that stay current, live push, the clock. */
import { useCallback, useEffect, useRef, useState } from "preact/hooks";
import { ApiError, load, onSignIn } from "./api.js";
import { follow } from "./live.js";

/** Milliseconds before a failed request without an answer is sent again. */
export const RETRY = 2_000;

/** Milliseconds between two updates while live push does not work, and before a stale answer is read again: another
 * process of the API may have noticed the return of Redis later than the process of live push. */
export const POLL_INTERVAL = 5_000;

/**
 * @template T
 * @typedef {object} Answer
 * @property {string | null} path The path of the content.
 * @property {T | null} content The last content, also after a later request has failed.
 * @property {Error | null} error The error of the last request.
 * @property {boolean} loading Whether the first content is on its way.
 * @property {() => void} reload
 * @property {(position: string) => Promise<boolean>} read Loads content that includes a position, if there is one.
 *   Returns whether it succeeded.
 */

/**
 * Load a path of the API, again after each change of the path or the token, and every `interval` milliseconds.
 * @param {string | null} path The path with its query. Null loads nothing.
 * @param {{interval?: number, keep?: boolean}} [options] `keep` returns the content of the last path while that of the
 *   path is loaded, so that what shows it, and has the focus, stays.
 * @returns {Answer<any>}
 */
export function useAnswer(path, { interval = 0, keep = false } = {}) {
  const [state, setState] = useState({ path, content: /** @type {any} */ (null), error: /** @type {any} */ (null) });
  const read = useRef(async (/** @type {string} */ _position) => true);
  useEffect(() => {
    if (path === null) return;
    const ended = new AbortController();
    let timer = 0;
    let latest = 0;
    const run = async (position = "") => {
      clearTimeout(timer);
      latest += 1;
      const mine = latest;
      let wait = interval;
      let error = /** @type {unknown} */ (null);
      const content = await load(path, { signal: ended.signal, headers: including(position) }).catch((failure) => {
        error = failure;
      });
      if (ended.signal.aborted || mine !== latest) return error === null;
      if (error === null) {
        setState({ path, content, error });
        if (content?.stale) wait = interval || POLL_INTERVAL;
      } else {
        setState((last) => ({ path, content: mayKeep(error) && last.path === path ? last.content : null, error }));
        if (isTemporary(error)) wait = interval || RETRY;
      }
      if (wait) timer = window.setTimeout(run, wait);
      return error === null;
    };
    read.current = run;
    const forget = onSignIn(() => void run());
    void run();
    return () => {
      ended.abort();
      clearTimeout(timer);
      forget();
    };
  }, [path, interval]);
  const isCurrent = state.path === path;
  const content = isCurrent || keep ? state.content : null;
  const error = isCurrent ? state.error : null;
  return {
    path: state.path,
    content,
    error,
    loading: path !== null && !content && !error,
    reload: () => void read.current(""),
    read: (position) => read.current(position),
  };
}

/**
 * Return the headers of a request whose answer includes a position.
 * @param {string} position The position, or the empty string.
 * @returns {Record<string, string>}
 */
export function including(position) {
  return position ? { "TickView-Min-Position": position } : {};
}

/**
 * Whether the same request may succeed later.
 * @param {unknown} error
 */
export function isTemporary(error) {
  return !(error instanceof ApiError) || error.status === 0 || error.status >= 500;
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
 * Read content again when live push tells of changes, and regularly while live push does not work: the server may not
 * have it, or a proxy may hold it back.
 * @param {{stream: string | null, query: string, interval: number}} push Path and query of live push, and the shortest
 *   time between two reads in milliseconds.
 * @param {(position: string) => Promise<boolean>} read Reads content that includes a position, if there is one. Returns
 *   whether it succeeded.
 * @returns {{live: import("./live.js").LiveState | "off", update: () => void}} `update` reads soon.
 */
export function useFollowed({ stream, query, interval }, read) {
  const position = useRef("");
  const update = useThrottled(async () => {
    const wanted = position.current;
    // A position that is not reached, after a rollback for example, must not make every further request fail.
    if (!(await read(wanted)) && position.current === wanted) position.current = "";
  }, interval);
  const live = useLive(stream, query, {
    onChanges: (message) => {
      position.current = message.position ?? "";
      update();
    },
    onReset: () => {
      // A new build has other positions.
      position.current = "";
      update();
    },
  });
  useEffect(() => {
    if (live === "stale") position.current = "";
    // Changes between the first read and the connection are in no message.
    if (live === "live" || live === "stale") update();
    if (live === "live" || live === "off") return undefined;
    const timer = setInterval(update, POLL_INTERVAL);
    return () => clearInterval(timer);
  }, [live, update]);
  return { live, update };
}

/**
 * Load a path of the API, and again when live push tells of changes.
 * @param {string} path The path with its query.
 * @param {{stream: string, query: string, interval: number}} push As in `useFollowed`.
 * @returns {{answer: Answer<any>, live: import("./live.js").LiveState | "off"}}
 */
export function useLiveAnswer(path, push) {
  const answer = useAnswer(path, { keep: true });
  const { live } = useFollowed(push, answer.read);
  return { answer, live };
}

/**
 * Return a function that calls `action` at most once in `milliseconds`, never before the last call has ended, and always
 * once more after the last call.
 * @param {() => Promise<void>} action
 * @param {number} milliseconds
 */
export function useThrottled(action, milliseconds) {
  const latest = useRef(action);
  latest.current = action;
  const state = useRef({ timer: 0, last: 0, isRunning: false, isWanted: false });
  useEffect(() => () => clearTimeout(state.current.timer), []);
  return useCallback(
    function call() {
      const present = state.current;
      present.isWanted = present.isRunning;
      if (present.isRunning || present.timer) return;
      const run = async () => {
        present.timer = 0;
        present.last = Date.now();
        present.isRunning = true;
        await latest.current();
        present.isRunning = false;
        if (present.isWanted) call();
      };
      present.timer = window.setTimeout(run, Math.max(0, present.last + milliseconds - Date.now()));
    },
    [milliseconds],
  );
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
