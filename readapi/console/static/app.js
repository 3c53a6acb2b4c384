/** The console: its head, its navigation, and the view of the present address. */
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { isSignedIn, onSignIn, signIn } from "./api.js";
import { Status } from "./components/notices.js";
import { useAnswer } from "./hooks.js";
import { html } from "./html.js";
import { addressOf, usePlace } from "./location.js";
import { Audit } from "./views/audit.js";
import { Backtests } from "./views/backtests.js";
import { Operations } from "./views/operations.js";
import { Overview } from "./views/overview.js";
import { ReadModels } from "./views/read_models.js";
import { Reference } from "./views/reference.js";
import { Scanner } from "./views/scanner.js";

/** @type {Record<string, {label: string, View: any}>} */
const VIEWS = {
  scanner: { label: "Scanner", View: Scanner },
  overview: { label: "Overview", View: Overview },
  backtests: { label: "Backtests", View: Backtests },
  "read-models": { label: "Read models", View: ReadModels },
  audit: { label: "Audit", View: Audit },
  operations: { label: "Operations", View: Operations },
  reference: { label: "API", View: Reference },
};

/** The view of an address that names none: the page `/docs` begins with the API reference. */
const FIRST_VIEW = location.pathname.endsWith("/docs") ? "reference" : "scanner";

/** Milliseconds between two looks at the health of the service. */
const HEALTH_INTERVAL = 10_000;

function App() {
  const place = usePlace();
  const name = place.view in VIEWS ? place.view : FIRST_VIEW;
  const { label, View } = VIEWS[name];
  useEffect(() => {
    document.title = `${label} – TickView`;
  }, [label]);
  return html`<a class="skip" href=${location.hash} onClick=${skipToContent}>Skip to the content</a>
    <header>
      <strong class="brand">TickView</strong>
      <nav aria-label="Views">
        ${Object.entries(VIEWS).map(
          ([view, { label }]) =>
            html`<a key=${view} href=${addressOf(view)} aria-current=${view === name ? "page" : undefined}
              >${label}</a
            >`,
        )}
      </nav>
      <${Health} />
      <${Theme} />
      <${Session} />
    </header>
    <main id="content" tabindex="-1">
      <h1>${label}</h1>
      <${View} key=${name} params=${place.params} />
    </main>`;
}

/** @param {Event} event */
function skipToContent(event) {
  event.preventDefault();
  document.getElementById("content")?.focus();
}

function Health() {
  const answer = useAnswer("api/health", { interval: HEALTH_INTERVAL });
  const status = answer.error ? "unknown" : (answer.content?.status ?? "unknown");
  return html`<span class="health" role="status"
    ><span class="label">Service: </span><${Status} status=${status}
  /></span>`;
}

const THEMES = /** @type {const} */ (["system", "light", "dark"]);

function Theme() {
  const [theme, setTheme] = useState(/** @type {string} */ (THEMES[0]));
  useEffect(() => {
    document.documentElement.dataset.theme = theme;
  }, [theme]);
  return html`<label class="theme">
    Colours
    <select value=${theme} onChange=${(/** @type {any} */ event) => setTheme(event.target.value)}>
      ${THEMES.map((name) => html`<option key=${name} value=${name}>${name}</option>`)}
    </select>
  </label>`;
}

function Session() {
  const [signedIn, setSignedIn] = useState(isSignedIn());
  useEffect(() => onSignIn(() => setSignedIn(isSignedIn())), []);
  if (signedIn) return html`<button onClick=${() => signIn("")}>Sign out</button>`;
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const form = /** @type {HTMLFormElement} */ (event.currentTarget);
    const field = /** @type {HTMLInputElement} */ (form.elements.namedItem("token"));
    signIn(field.value.trim());
  };
  return html`<form class="session" onSubmit=${submit}>
    <label>Token <input name="token" type="password" autocomplete="off" required /></label>
    <button>Sign in</button>
  </form>`;
}

const root = /** @type {HTMLElement} */ (document.getElementById("app"));
root.replaceChildren();
render(html`<${App} />`, root);
