// What the OpenAPI document's schemas say: types, fields and examples. Knows nothing of the page.

let spec = {};

/** The document that every $ref is looked up in. */
export function lookUpIn(document) {
  spec = document;
}

/** What a node stands for; in OpenAPI 3.1 the members beside a $ref count too. */
export function resolve(node) {
  while (node?.$ref) {
    const { $ref, ...beside } = node;
    const steps = $ref.slice(2).split("/").map(decodeURIComponent);
    const names = steps.map((step) => step.replaceAll("~1", "/").replaceAll("~0", "~"));
    node = { ...names.reduce((at, name) => at?.[name], spec), ...beside };
  }
  return node ?? {};
}

/** A schema with its $ref followed and its allOf merged. */
export function schemaOf(node) {
  const { allOf, ...own } = resolve(node);
  if (!allOf) return own;
  return [...allOf.map(schemaOf), own].reduce((all, part) => ({
    ...all,
    ...part,
    properties: { ...all.properties, ...part.properties },
    required: [...(all.required ?? []), ...(part.required ?? [])],
  }));
}

const choicesOf = (schema) => schema.oneOf ?? schema.anyOf;

export function typeOf(node) {
  const schema = schemaOf(node);
  if (choicesOf(schema)) return [...new Set(choicesOf(schema).map(typeOf))].join(" | ");
  const value = schema.const ?? schema.enum?.[0];
  const guess = value !== undefined ? typeof value : schema.properties ? "object" : "any";
  const types = [schema.type ?? guess].flat();
  return types.map((type) => (type === "array" ? `${itemsOf(schema)}[]` : type)).join(" | ");
}

function itemsOf(schema) {
  const type = typeOf(schema.items);
  return type.includes(" ") ? `(${type})` : type;
}

/** Whether a recursive schema comes round again, or goes deeper than anybody reads. */
const isTooDeep = (node, above) => (node?.$ref && above.includes(node.$ref)) || above.length > 8;

/** Every field below a node, outermost first: `user`, `user.id`, `events[].type`. */
export function fieldsOf(node, path = "", above = []) {
  if (isTooDeep(node, above)) return [];
  const schema = schemaOf(node);
  const trail = [...above, node?.$ref];
  const below = (child, at) => fieldsOf(child, at, trail);
  if (choicesOf(schema)) return choicesOf(schema).flatMap((choice) => below(choice, path));
  if (schema.items) return below(schema.items, `${path}[]`);
  const more = schema.additionalProperties;
  const named = Object.entries(schema.properties ?? {});
  if (more && Object.keys(more).length) named.push(["*", more]);
  return named.flatMap(([name, child]) => {
    const at = path ? `${path}.${name}` : name;
    return [{ name: at, node: child, required: schema.required?.includes(name) }, ...below(child, at)];
  });
}

const FORMATS = {
  "date-time": "2026-01-01T00:00:00Z",
  date: "2026-01-01",
  email: "user@example.org",
  uri: "https://example.org/",
  uuid: "00000000-0000-4000-8000-000000000000",
};

/** A value that fits. With `lean`, for requests, a field that may stay at its default is left out. */
function exampleOf(node, lean = false, above = []) {
  const schema = schemaOf(node);
  const hasDefault = (name) => schemaOf(schema.properties?.[name]).default !== undefined;
  const isSent = ([name]) => !lean || schema.required?.includes(name) || !hasDefault(name);
  const some = (value) => Object.fromEntries(Object.entries(value).filter(isSent));
  const given = schema.examples?.[0] ?? schema.example ?? schema.const ?? schema.enum?.[0];
  if (given !== undefined) return schema.properties ? some(given) : given;
  if (isTooDeep(node, above)) return null;
  const below = (child) => exampleOf(child, lean, [...above, node?.$ref]);
  if (choicesOf(schema)) return below(choicesOf(schema)[0]);
  const type = [schema.type ?? (schema.properties ? "object" : "null")].flat()[0];
  if (type === "object") {
    const sent = Object.entries(some(schema.properties ?? {}));
    return Object.fromEntries(sent.map(([name, child]) => [name, below(child)]));
  }
  if (type === "array") return [below(schema.items)];
  if (type === "string") return schema.default ?? FORMATS[schema.format] ?? "string";
  if (type === "boolean") return schema.default ?? true;
  return type === "null" ? null : (schema.default ?? schema.minimum ?? 0);
}

/** The examples of a media type by name: its own, or one made from the schema. */
export function examplesOf(media, lean) {
  const named = Object.entries(media.examples ?? {}).map(([name, node]) => {
    const { summary, value } = resolve(node);
    return [summary ?? name, value];
  });
  return named.length ? named : [["", media.example ?? exampleOf(media.schema, lean)]];
}
