/** API reference: the operations of `/openapi.json` by tag, each with its parameters, bodies, answers and examples. */
import { useState } from "preact/hooks";
import { AnswerNotice, Empty } from "../components/notices.js";
import { useAnswer } from "../hooks.js";
import { html } from "../html.js";
import { Line, SchemaTree, Text, typeOf } from "./reference_schema.js";

/**
 * @typedef {object} Operation
 * @property {string} operationId
 * @property {string} method
 * @property {string} path
 * @property {string} summary
 * @property {string[]} tags
 * @property {any[]} parameters
 * @property {{required: boolean, content: Record<string, any>}} [requestBody]
 * @property {Record<string, {description: string, content?: Record<string, any>, headers?: Record<string, any>}>} responses
 * @property {Record<string, string[]>[]} [security]
 */

/** @param {{params: URLSearchParams}} props */
export function Reference({ params }) {
  const answer = useAnswer("openapi.json");
  const [search, setSearch] = useState("");
  const document = answer.content;
  /** @type {Operation[]} */
  const operations = document ? operationsOf(document).filter((operation) => matches(operation, search)) : [];
  return html`<${AnswerNotice} answer=${answer} /> ${
      document &&
      html`<${Text} text=${document.info.description} />
        <div class="filters">
          <label>
            Search
            <input
              type="search"
              value=${search}
              placeholder="scan, replay, audit …"
              onInput=${(/** @type {any} */ event) => setSearch(event.target.value)}
            />
          </label>
          <p><a href=${new URL("../../openapi.json", import.meta.url).href}>openapi.json</a></p>
        </div>
        ${operations.length === 0 && html`<${Empty}>No operation contains these words.<//>`}
        ${document.tags.map(
          (/** @type {{name: string, description: string}} */ tag) =>
            html`<${Section}
              key=${tag.name}
              tag=${tag}
              operations=${operations.filter((operation) => operation.tags.includes(tag.name))}
              components=${document.components.schemas}
              open=${params.get("operation") ?? ""}
            />`,
        )}`
    }`;
}

/**
 * @param {any} document
 * @returns {Operation[]}
 */
function operationsOf(document) {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ method, path, ...operation })),
  );
}

/**
 * Whether an operation contains every word of a search.
 * @param {Operation} operation
 * @param {string} search
 */
function matches({ method, path, summary, tags }, search) {
  const text = `${method} ${path} ${summary} ${tags.join(" ")}`.toLowerCase();
  return search
    .toLowerCase()
    .split(/\s+/)
    .every((word) => text.includes(word));
}

/**
 * @param {{tag: {name: string, description: string}, operations: Operation[], components: any, open: string}} props
 */
function Section({ tag, operations, components, open }) {
  if (!operations.length) return null;
  return html`<section class="operations" aria-label=${tag.name}>
    <h2>${tag.name}</h2>
    <p>${tag.description}</p>
    ${operations.map(
      (operation) =>
        html`<${OperationDetails}
          key=${operation.operationId}
          operation=${operation}
          components=${components}
          isOpen=${operation.operationId === open}
        />`,
    )}
  </section>`;
}

/** @param {{operation: Operation, components: any, isOpen: boolean}} props */
function OperationDetails({ operation, components, isOpen }) {
  // The content is made when it is opened for the first time: all operations together have thousands of elements.
  const [isMade, setMade] = useState(isOpen);
  return html`<details
    class="operation"
    open=${isOpen}
    onToggle=${(/** @type {any} */ event) => event.currentTarget.open && setMade(true)}
  >
    <summary>
      <span class=${`method ${operation.method}`}>${operation.method.toUpperCase()}</span>
      <code>${operation.path}</code> <span class="words">${operation.summary}</span>
    </summary>
    ${isMade && html`<${OperationContent} operation=${operation} components=${components} />`}
  </details>`;
}

/** @param {{operation: Operation, components: any}} props */
function OperationContent({ operation, components }) {
  const scopes = (operation.security ?? []).flatMap((scheme) => Object.values(scheme).flat());
  const body = operation.requestBody;
  return html`${scopes.length > 0 && html`<p>Needs a token with the scope <code>${scopes.join(", ")}</code>.</p>`}
    ${operation.parameters.length > 0 && html`<${Parameters} parameters=${operation.parameters} />`}
    ${
      body &&
      html`<h3>Body${body.required ? "" : ", optional"}</h3>
        <${Content} content=${body.content} components=${components} />`
    }
    <h3>Answers</h3>
    ${Object.entries(operation.responses).map(
      ([status, response]) =>
        html`<${Response} key=${status} status=${status} response=${response} components=${components} />`,
    )}`;
}

/** @param {{parameters: any[]}} props */
function Parameters({ parameters }) {
  return html`<h3>Parameters</h3>
    <div class="scroll" tabindex="0" role="region" aria-label="Parameters">
      <table class="described">
        <thead>
          <tr>
            ${["Name", "In", "Type", "Description"].map((label) => html`<th key=${label} scope="col">${label}</th>`)}
          </tr>
        </thead>
        <tbody>
          ${parameters.map(
            (parameter) =>
              html`<tr key=${`${parameter.in} ${parameter.name}`}>
                <th scope="row"><code>${parameter.name}</code>${parameter.required ? " (required)" : ""}</th>
                <td>${parameter.in}</td>
                <td>${typeOf(parameter.schema)}</td>
                <td><${Text} text=${parameter.description} /></td>
              </tr>`,
          )}
        </tbody>
      </table>
    </div>`;
}

/** @param {{status: string, response: Operation["responses"][string], components: any}} props */
function Response({ status, response, components }) {
  return html`<details class="answer" open=${status < "300"}>
    <summary><strong>${status}</strong> <${Line} text=${response.description} /></summary>
    ${
      response.headers &&
      html`<p>Headers: ${Object.keys(response.headers).map((name) => html`<code key=${name}>${name}</code>${" "}`)}</p>`
    }
    ${response.content && html`<${Content} content=${response.content} components=${components} />`}
  </details>`;
}

/** @param {{content: Record<string, any>, components: any}} props */
function Content({ content, components }) {
  return Object.entries(content).map(
    ([mediaType, { schema, example }]) =>
      html`<div key=${mediaType} class="content">
        <p><code>${mediaType}</code></p>
        ${
          example !== undefined &&
          html`<figure>
            <figcaption>Example</figcaption>
            <pre tabindex="0">${typeof example === "string" ? example : JSON.stringify(example, null, 2)}</pre>
          </figure>`
        }
        <${SchemaTree} schema=${schema} components=${components} />
      </div>`,
  );
}
