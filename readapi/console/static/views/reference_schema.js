/** JSON schemas as people read them: a tree of members with types and descriptions. */
import { html } from "../html.js";

/** Levels of members that are shown. Deeper schemas are shown by their names alone. */
const DEPTH = 6;

/**
 * Text with `code` in backticks, and paragraphs.
 * @param {{text?: string}} props
 */
export function Text({ text = "" }) {
  return text
    .split(/\n\n+/)
    .filter(Boolean)
    .map(
      (paragraph, index) =>
        html`<p key=${index}>
          <${Line} text=${paragraph} />
        </p>`,
    );
}

/**
 * Text with `code` in backticks.
 * @param {{text: string}} props
 */
export function Line({ text }) {
  return text.split("`").map((part, place) => (place % 2 ? html`<code key=${place}>${part}</code>` : part));
}

/**
 * The name of a schema to which a reference refers.
 * @param {any} schema
 */
function nameOf(schema) {
  const name = schema.$ref?.split("/").pop() ?? "";
  return name.split("__").pop();
}

/**
 * Describe the type of a schema in a few words.
 * @param {any} schema
 * @returns {string}
 */
export function typeOf(schema) {
  if (schema.$ref) return nameOf(schema);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((/** @type {unknown} */ value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) return [...new Set(schema.anyOf.map(typeOf))].join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items ?? {})}`;
  if (schema.additionalProperties && typeof schema.additionalProperties === "object")
    return `object of ${typeOf(schema.additionalProperties)}`;
  return [schema.type ?? "any", ...boundsOf(schema)].join(", ");
}

/**
 * The bounds of a schema, such as “from 0, to 1”.
 * @param {any} schema
 */
function boundsOf(schema) {
  const bounds = [];
  if (schema.minimum !== undefined) bounds.push(`from ${schema.minimum}`);
  if (schema.maximum !== undefined) bounds.push(`to ${schema.maximum}`);
  if (schema.maxLength !== undefined) bounds.push(`up to ${schema.maxLength} characters`);
  if (schema.default !== undefined && schema.default !== null) bounds.push(`default ${JSON.stringify(schema.default)}`);
  return bounds;
}

/**
 * The objects that a schema consists of: itself, or the variants, items and values that are objects.
 * @param {any} schema
 * @param {any} components
 * @returns {any[]}
 */
function objectsOf(schema, components) {
  if (schema.$ref) return objectsOf(components[schema.$ref.split("/").pop()] ?? {}, components);
  if (schema.anyOf) return schema.anyOf.flatMap((/** @type {any} */ variant) => objectsOf(variant, components));
  if (schema.items) return objectsOf(schema.items, components);
  if (schema.properties) return [schema];
  const values = schema.additionalProperties;
  return values && typeof values === "object" ? objectsOf(values, components) : [];
}

/**
 * @param {{schema: any, components: any, depth?: number}} props
 */
export function SchemaTree({ schema, components, depth = 0 }) {
  const objects = depth < DEPTH ? objectsOf(schema, components) : [];
  if (!objects.length) return depth ? null : html`<p>${typeOf(schema)}</p>`;
  return objects.map(
    (object, index) =>
      html`<div key=${index} class="schema">
        ${(depth === 0 || objects.length > 1) && html`<p><strong>${object.title}</strong></p>`}
        ${depth === 0 && html`<${Text} text=${object.description} />`}
        <ul>
          ${Object.entries(object.properties).map(
            ([name, member]) =>
              html`<${Member}
                key=${name}
                name=${name}
                member=${member}
                isRequired=${(object.required ?? []).includes(name)}
                components=${components}
                depth=${depth}
              />`,
          )}
        </ul>
      </div>`,
  );
}

/**
 * @param {{name: string, member: any, isRequired: boolean, components: any, depth: number}} props
 */
function Member({ name, member, isRequired, components, depth }) {
  const title = html`<code>${name}</code> <span class="type">${typeOf(member)}${isRequired ? "" : ", optional"}</span>`;
  const hasMembers = depth + 1 < DEPTH && objectsOf(member, components).length > 0;
  return html`<li>
    ${
      hasMembers
        ? html`<details>
            <summary>${title}</summary>
            <${SchemaTree} schema=${member} components=${components} depth=${depth + 1} />
          </details>`
        : title
    }
    ${member.description && html`<${Text} text=${member.description} />`}
  </li>`;
}
