/** Operations: whether everything is all right, and if not, where. Commands for replay, rollback and dead letters. */
import { useState } from "preact/hooks";
import { AnswerNotice, Empty, Status } from "../components/notices.js";
import { Table } from "../components/table.js";
import { dateTime, duration, number, words } from "../format.js";
import { useAnswer } from "../hooks.js";
import { html } from "../html.js";
import { DeadLetters } from "./operations_dead_letters.js";
import { ParkedKeys } from "./operations_parked_keys.js";
import { Replay } from "./operations_replay.js";

/** Milliseconds between two looks at the service. */
const INTERVAL = 2_000;

export function Operations() {
  const health = useAnswer("api/health", { interval: INTERVAL });
  const projections = useAnswer("api/projections", { interval: INTERVAL });
  return html`<${AnswerNotice} answer=${projections} />
    ${health.content?.roles && html`<${Verdict} health=${health.content} />`}
    ${
      projections.content &&
      html`<${ReadModelBuilds} projections=${projections.content.projections} reload=${projections.reload} />
        <${Gaps} gaps=${health.content?.intake?.gaps ?? []} />
        <${DeadLetters} count=${health.content?.intake?.dead_letters ?? 0} />`
    }`;
}

/**
 * Every part of the service with its status and its reasons.
 * @param {any} health
 * @returns {{name: string, status: string, reasons: string[], facts: string}[]}
 */
function partsOf(health) {
  const parts = [];
  for (const [name, server] of Object.entries(health.servers ?? {})) {
    parts.push({ name: words(name), ...server, facts: `version ${server.version}, ${number(server.latency_ms)} ms` });
  }
  for (const [name, role] of Object.entries(health.roles ?? {})) {
    const seen = role.age_seconds === null ? "" : `, seen ${duration(role.age_seconds)} ago`;
    parts.push({
      name: `Role ${name}`,
      ...role,
      facts: `${role.processes} process${role.processes === 1 ? "" : "es"}${seen}`,
    });
  }
  const { intake, archive, verification } = health;
  if (intake) parts.push({ name: "Intake", ...intake, facts: intakeFacts(intake) });
  if (archive) parts.push({ name: "Archive", ...archive, facts: `${number(lagOf(archive))} events behind` });
  if (verification) {
    const facts = `${number(verification.events)} events verified, ${dateTime(verification.finished_at)}`;
    parts.push({ name: "Verification", ...verification, facts });
  }
  return parts;
}

/** @param {any} intake */
function intakeFacts(intake) {
  const ways = ["pubsub", "stream", "http"].filter((way) => intake[way]?.heard);
  const gaps = ["pubsub", "stream", "http"].reduce((sum, way) => sum + (intake[way]?.gaps ?? 0), 0);
  return `hears ${ways.join(", ") || "nothing"}; ${number(gaps)} gaps, ${number(intake.dead_letters)} dead letters`;
}

/** @param {any} archive */
function lagOf(archive) {
  /** @type {{lag_events: number | null}[]} */
  const logs = Object.values(archive.logs ?? {});
  return logs.reduce((sum, log) => sum + (log.lag_events ?? 0), 0);
}

/** @param {{health: any}} props */
function Verdict({ health }) {
  const parts = partsOf(health);
  const faulty = parts.filter((part) => part.status !== "healthy").map((part) => part.name);
  const sentence =
    health.status === "healthy" ? "Everything is all right." : `Look at: ${faulty.join(", ") || "the read models"}.`;
  return html`<p class=${`notice verdict ${health.status === "healthy" ? "" : "warning"}`} role="status">
      <${Status} status=${health.status} /> ${` ${sentence}`}
    </p>
    <${Table}
      caption="Parts of the service"
      keyOf=${(/** @type {any} */ part) => part.name}
      rows=${parts}
      columns=${[
        { name: "name", label: "Part", show: (/** @type {any} */ part) => part.name },
        {
          name: "status",
          label: "Status",
          show: (/** @type {any} */ part) => html`<${Status} status=${part.status} />`,
        },
        { name: "facts", label: "Facts", show: (/** @type {any} */ part) => part.facts },
        {
          name: "reasons",
          label: "Reasons",
          show: (/** @type {any} */ part) => (part.reasons ?? []).join("; ") || "–",
        },
      ]}
    />`;
}

/**
 * The latest times in which a recorder did not hear a way in.
 * @param {{gaps: any[]}} props
 */
function Gaps({ gaps }) {
  if (!gaps.length) return null;
  return html`<h2>Gaps</h2>
    <${Table}
      caption="Times in which a recorder did not hear a way, so that messages may be lost"
      keyOf=${(/** @type {any} */ gap) => `${gap.way}/${gap.recorder}/${gap.began_at}`}
      rows=${gaps}
      columns=${[
        { name: "way", label: "Way", show: (/** @type {any} */ gap) => gap.way },
        { name: "recorder", label: "Recorder", show: (/** @type {any} */ gap) => gap.recorder },
        { name: "began", label: "From", show: (/** @type {any} */ gap) => dateTime(gap.began_at) },
        { name: "ended", label: "To", show: (/** @type {any} */ gap) => dateTime(gap.ended_at) },
        { name: "reason", label: "Reason", show: (/** @type {any} */ gap) => gap.reason },
        numeric("others", "Others that heard it"),
      ]}
    />`;
}

/** @param {{projections: any[], reload: () => void}} props */
function ReadModelBuilds({ projections, reload }) {
  const [parked, setParked] = useState("");
  const [replayed, setReplayed] = useState("");
  const model = projections.find((each) => each.name === replayed);
  return html`<h2>Read models</h2>
    <${Table}
      caption="Builds of the read models"
      keyOf=${(/** @type {any} */ model) => model.name}
      rows=${projections}
      columns=${[
        { name: "name", label: "Read model", show: (/** @type {any} */ model) => model.name },
        { name: "live", label: "Live build", show: (/** @type {any} */ model) => model.live ?? "–" },
        { name: "previous", label: "Previous", show: (/** @type {any} */ model) => model.previous ?? "–" },
        {
          name: "building",
          label: "Under way",
          show: (/** @type {any} */ model) => html`<${Building} model=${model} />`,
        },
        numeric("lag_events", "Lag in events"),
        numeric("events_per_second", "Events per second"),
        {
          name: "parked",
          label: "Parked keys",
          numeric: true,
          show: (/** @type {any} */ model) =>
            model.parked_keys > 0
              ? html`<button onClick=${() => setParked(model.name)}>${model.parked_keys} parked</button>`
              : "0",
        },
        {
          name: "commands",
          label: "Commands",
          show: (/** @type {any} */ model) =>
            html`<button
              aria-label=${`Replay or roll back ${model.name}`}
              aria-expanded=${model.name === replayed ? "true" : "false"}
              onClick=${() => setReplayed(model.name === replayed ? "" : model.name)}
            >
              Replay or roll back
            </button>`,
        },
      ]}
    />
    ${model && html`<${Replay} key=${model.name} model=${model} onChange=${reload} onClose=${() => setReplayed("")} />`}
    ${parked && html`<${ParkedKeys} model=${parked} onClose=${() => setParked("")} />`}
    <${Partitions} projections=${projections} />`;
}

/**
 * @param {string} name
 * @param {string} label
 */
function numeric(name, label) {
  return { name, label, numeric: true, show: (/** @type {any} */ row) => number(row[name]) };
}

/** @param {{model: any}} props */
function Building({ model }) {
  if (!model.building) return "–";
  const left = model.seconds_left === null ? "" : `, ${duration(model.seconds_left)} left`;
  return html`<progress max="100" value=${model.percent ?? 0} aria-label=${`Replay of ${model.name}`}></progress>
    ${` ${model.building}: ${number(model.percent)} %${left}${model.held ? ", held" : ""}`}`;
}

/** @param {{projections: any[]}} props */
function Partitions({ projections }) {
  const rows = projections.flatMap((model) =>
    model.segments.map((/** @type {any} */ segment) => ({ model: model.name, ...segment })),
  );
  if (!rows.length) return html`<${Empty}>No worker has folded a partition yet.<//>`;
  return html`<details>
    <summary>Partitions</summary>
    <${Table}
      caption="Partitions"
      keyOf=${(/** @type {any} */ row) => `${row.model}/${row.log}`}
      rows=${rows}
      columns=${[
        { name: "model", label: "Read model", show: (/** @type {any} */ row) => row.model },
        { name: "log", label: "Log", show: (/** @type {any} */ row) => row.log },
        numeric("checkpoint", "Folded until"),
        numeric("head", "Head"),
        numeric("lag_events", "Lag in events"),
        numeric("events_per_second", "Events per second"),
        { name: "owner", label: "Worker", show: (/** @type {any} */ row) => row.owner ?? "–" },
      ]}
    />
  </details>`;
}
