/** The address: the view and its query stand behind `#`, so that an address can be kept and sent to others. */
import { useEffect, useState } from "preact/hooks";

/** @typedef {{view: string, params: URLSearchParams}} Place */

/** @returns {Place} */
function place() {
  const [view, query = ""] = location.hash.replace(/^#\/?/, "").split("?", 2);
  return { view, params: new URLSearchParams(query) };
}

/**
 * Return the address of a view.
 * @param {string} view
 * @param {URLSearchParams} [params]
 */
export function addressOf(view, params) {
  const query = params?.toString();
  return `#/${view}${query ? `?${query}` : ""}`;
}

/**
 * Go to a view.
 * @param {string} view
 * @param {URLSearchParams} [params]
 */
export function go(view, params) {
  location.hash = addressOf(view, params);
}

/**
 * Return a copy of a query with changed parameters.
 * @param {URLSearchParams} params
 * @param {Record<string, string | null>} changes Null and the empty string remove a parameter.
 */
export function changed(params, changes) {
  const copy = new URLSearchParams(params);
  for (const [name, value] of Object.entries(changes)) {
    if (value) copy.set(name, value);
    else copy.delete(name);
  }
  return copy;
}

/** Return the present place, and follow it. */
export function usePlace() {
  const [present, setPresent] = useState(place);
  useEffect(() => {
    const update = () => setPresent(place());
    addEventListener("hashchange", update);
    return () => removeEventListener("hashchange", update);
  }, []);
  return present;
}
