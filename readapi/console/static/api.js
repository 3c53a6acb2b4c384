/** Requests to the API. The token is in memory alone: it ends with the page, and is in no cookie and no storage. */

/** Address of the service, also under a prefix. */
const SERVICE = new URL("../", import.meta.url);

let token = "";

/** @type {Set<() => void>} */
const listeners = new Set();

/**
 * Use a token in all further requests.
 * @param {string} value The token, or the empty string to sign out.
 */
export function signIn(value) {
  token = value;
  for (const listener of listeners) listener();
}

/** Whether the page has a token. */
export function isSignedIn() {
  return token !== "";
}

/**
 * Call a function after each change of the token.
 * @param {() => void} listener
 * @returns {() => void} Ends the calls.
 */
export function onSignIn(listener) {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** An answer of the API that is a problem document, or a request without an answer (status 0). */
export class ApiError extends Error {
  /**
   * @param {number} status
   * @param {{type?: string, detail?: string, scope?: string}} problem
   */
  constructor(status, problem) {
    super(problem.detail ?? `The service answered with status ${status}.`);
    this.status = status;
    this.scope = problem.scope ?? "";
  }
}

/**
 * @typedef {object} Options
 * @property {string} [method]
 * @property {URLSearchParams | Record<string, string>} [params]
 * @property {unknown} [body] JSON content.
 * @property {Record<string, string>} [headers]
 * @property {AbortSignal} [signal]
 */

/**
 * Send a request.
 * @param {string} path Path without the first slash, such as `api/patterns/scan`.
 * @param {Options} [options]
 * @returns {Promise<Response>}
 * @throws {ApiError} The answer is a problem, or there is none.
 */
export async function send(path, { method = "GET", params, body, headers = {}, signal } = {}) {
  const address = new URL(path, SERVICE);
  if (params) address.search = new URLSearchParams(params).toString();
  /** @type {Record<string, string>} */
  const authorization = token ? { Authorization: `Bearer ${token}` } : {};
  /** @type {Record<string, string>} */
  const content = body === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    response = await fetch(address, {
      method,
      headers: { ...authorization, ...content, ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
      credentials: "omit",
      cache: "no-store",
      signal,
    });
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, { detail: "The service does not answer. The console tries again." });
  }
  if (!response.ok && !isDocument(response)) throw new ApiError(response.status, await problemOf(response));
  return response;
}

/**
 * Send a request and return the JSON content of the answer.
 * @param {string} path
 * @param {Options} [options]
 * @returns {Promise<any>}
 */
export async function load(path, options) {
  const response = await send(path, options);
  return response.status === 204 ? null : response.json();
}

/**
 * Whether an answer has content in spite of its status: the health of an unhealthy service has the status 503.
 * @param {Response} response
 */
function isDocument(response) {
  return response.headers.get("Content-Type") === "application/json";
}

/** @param {Response} response */
async function problemOf(response) {
  const isJson = (response.headers.get("Content-Type") ?? "").includes("json");
  return isJson ? response.json() : {};
}
