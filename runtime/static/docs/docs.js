// Reads the OpenAPI document and shows it. Whatever the document says becomes text nodes, ids and
// field values, never markup.

import { examplesOf, fieldsOf, lookUpIn, resolve, schemaOf, typeOf } from "./schema.js";
import { language, words } from "./words.js";

const METHODS = ["get", "put", "post", "delete", "options", "head", "patch", "trace"];
const TOKEN_KEY = "runtime-api.access_token";

const page = (name) => document.getElementById(`page-${name}`);
let spec = {};

// The page's building blocks

/** An element; a function among the attributes listens to the event of that name. */
function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") node.addEventListener(name, value);
    else if (value || value === "") node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat(Infinity).filter((child) => child || child === ""));
  return node;
}

/** The document's prose: paragraphs, and `code`. Its language may differ from the page's. */
function prose(text = "") {
  const lang = /\p{Script=Han}/u.test(text) ? "zh-CN" : "en";
  // Chinese has no spaces, so a wrapped line must not become one.
  const joined = text.replace(/(?<=[\p{Script=Han}，。；：、])\n(?=\p{Script=Han})/gu, "");
  const parts = (paragraph) =>
    paragraph.split(/`([^`]+)`/).map((part, i) => (i % 2 ? el("code", {}, part) : part));
  return joined.split(/\n\s*\n/).filter(Boolean).map((p) => el("p", { lang }, parts(p)));
}

function lock() {
  const node = page("lock").content.firstElementChild.cloneNode(true);
  node.setAttribute("aria-label", words.secured);
  return node;
}

const JSON_TOKEN =
  /("(?:[^"\\]|\\.)*")(\s*:)?|\b(?:true|false|null)\b|-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?/g;

/** JSON text with its keys, strings and other values coloured. */
function colored(text) {
  const parts = [];
  let end = 0;
  for (const match of text.matchAll(JSON_TOKEN)) {
    const kind = match[2] ? "key" : match[1] ? "string" : "value";
    const token = match[1] ?? match[0];
    parts.push(text.slice(end, match.index), el("span", { class: kind }, token));
    end = match.index + token.length;
  }
  return [...parts, text.slice(end)];
}

const pretty = (value) => JSON.stringify(value, null, 2);
const compact = (value) => (typeof value === "string" ? value : JSON.stringify(value));

/** Code under a label, with a button that copies it. */
function codeBlock(label, ...content) {
  const pre = el("pre", {}, content);
  const button = el("button", { type: "button", click: () => copy(pre, button) }, words.copy);
  return el("figure", { class: "code" }, el("figcaption", {}, label, button), pre);
}

async function copy(source, button) {
  try {
    await navigator.clipboard.writeText(source.textContent);
  } catch {
    // There is no clipboard on a page that came over plain HTTP; a selection can be copied.
    getSelection().selectAllChildren(source);
    document.execCommand("copy");
    getSelection().removeAllRanges();
  }
  button.textContent = words.copied;
  setTimeout(() => (button.textContent = words.copy), 1500);
}

// Schemas

function bounds(low, high) {
  if (low === undefined && high === undefined) return undefined;
  if (low === undefined) return `≤ ${high}`;
  if (high === undefined) return `≥ ${low}`;
  return low === high ? `${low}` : `${low}–${high}`;
}

/** What a schema asks of a value besides its type. */
function constraints(node) {
  const schema = schemaOf(node);
  const values = schema.enum ?? (schema.const === undefined ? [] : [schema.const]);
  const note = (label, ...codes) =>
    el("span", { class: "note" }, label, " ", codes.map((code) => [el("code", {}, code), " "]));
  const notes = [
    [words.length, bounds(schema.minLength, schema.maxLength)],
    [words.items, bounds(schema.minItems, schema.maxItems)],
    [words.range, bounds(schema.minimum, schema.maximum)],
    [">", schema.exclusiveMinimum],
    ["<", schema.exclusiveMaximum],
    [words.multiple, schema.multipleOf],
    [words.format, schema.format],
    [words.pattern, schema.pattern?.length < 40 ? schema.pattern : undefined],
    [words.fallback, schema.default],
    [words.such, values.length || schema.properties ? undefined : schema.examples?.[0]],
  ].filter(([, value]) => value !== undefined).map(([label, value]) => note(label, compact(value)));
  if (values.length) notes.unshift(note(words.values, ...values.map(compact)));
  if (schema.uniqueItems) notes.push(note(words.unique));
  if (schema.pattern?.length >= 40) {
    const open = el("details", {}, el("summary", {}, words.pattern), el("code", {}, schema.pattern));
    notes.push(open);
  }
  return notes;
}

/** A table of fields, parameters or headers: `{name, node, required, description, place}`. */
function fieldTable(label, rows, isAnswer = false) {
  if (!rows.length) return null;
  const row = ({ name, node, required, description, deprecated, place }) => {
    const schema = schemaOf(node);
    const [, outer, last] = name.match(/^(.*[.\]])?(.*)$/);
    const marks = [
      place && el("span", { class: "mark" }, place),
      required && isAnswer && el("span", { class: "mark" }, words.always),
      required && !isAnswer && el("span", { class: "mark required" }, words.required),
      (deprecated ?? schema.deprecated) && el("span", { class: "mark" }, words.deprecated),
    ];
    return el("tr", {},
      el("th", { scope: "row" }, el("code", {}, el("span", { class: "outer" }, outer), last), marks),
      el("td", {}, el("code", {}, typeOf(node))),
      el("td", {}, constraints(node), prose(description ?? schema.description)));
  };
  const head = [words.field, words.type, words.notes].map((w) => el("th", { scope: "col" }, w));
  return el("table", { "aria-label": label },
    el("thead", {}, el("tr", {}, head)), el("tbody", {}, rows.map(row)));
}

// Operations

/** The document's operations, in its order, with everything resolved that more than one part needs. */
function readOperations() {
  return Object.entries(spec.paths ?? {}).flatMap(([path, node]) => {
    const item = resolve(node);
    return Object.keys(item)
      .filter((method) => METHODS.includes(method))
      .map((method) => readOperation(path, method, item));
  });
}

function readOperation(path, method, item) {
  const source = item[method];
  const parameters = new Map();
  for (const parameter of [...(item.parameters ?? []), ...(source.parameters ?? [])].map(resolve)) {
    parameters.set(`${parameter.in} ${parameter.name}`, parameter);
  }
  const responses = Object.entries(source.responses ?? {})
    .map(([status, response]) => ({ status, ...resolve(response) }));
  const body = source.requestBody && resolve(source.requestBody);
  const [type, media] = Object.entries(body?.content ?? {})[0] ?? [];
  const schemes = source.security ?? spec.security ?? [];
  const good = responses.filter(({ status }) => status.startsWith("2"));
  return {
    ...source,
    path,
    method: method.toUpperCase(),
    id: source.operationId ?? `${method}${path}`.replace(/[^A-Za-z0-9]+/g, "-").replace(/-$/, ""),
    tag: source.tags?.[0] ?? "",
    isSecured: schemes.length > 0 && schemes.every((scheme) => Object.keys(scheme).length),
    parameters: [...parameters.values()],
    body: media && { ...media, type, isRequired: body.required, description: body.description },
    accepts: [...new Set(good.flatMap(({ content }) => Object.keys(content ?? {})))],
    responses,
  };
}

/** What all paths begin with, in whole segments: `/api/v1`. */
function commonPrefix(paths) {
  const [first = [], ...others] = paths.map((path) => path.split("/").slice(0, -1));
  const differs = first.findIndex((step, i) => others.some((steps) => steps[i] !== step));
  return (differs < 0 ? first : first.slice(0, differs)).join("/");
}

const methodMark = ({ method }) => el("span", { class: `method ${method.toLowerCase()}` }, method);

function operationSection(operation, prefix) {
  const { id, path, parameters, body } = operation;
  const rows = parameters.map((parameter) => ({
    ...parameter, node: parameter.schema ?? {}, place: parameter.in,
  }));
  return el("section", { id, class: "operation", "aria-labelledby": `${id}-name` },
    el("h3", { id: `${id}-name` },
      methodMark(operation), " ",
      el("code", {}, el("span", { class: "outer" }, prefix), path.slice(prefix.length)), " ",
      el("a", { class: "anchor", href: `#${id}`, "aria-label": words.link }, "#")),
    el("div", { class: "told" },
      el("div", { class: "lead" }, prose(operation.summary)),
      operation.isSecured && el("p", { class: "secured" }, lock(), words.secured),
      operation.deprecated && el("p", { class: "mark" }, words.deprecated),
      prose(operation.description),
      rows.length > 0 && [el("h4", {}, words.parameters), fieldTable(words.parameters, rows)],
      body && requestPart(body),
      el("h4", {}, words.responses),
      operation.responses.map(responsePart)),
    el("div", { class: "tried" }, tryPart(operation)));
}

function requestPart(body) {
  const isClosed = schemaOf(body.schema).additionalProperties === false;
  return [
    el("h4", {}, words.request, " ", el("code", { class: "media" }, body.type),
      body.isRequired && el("span", { class: "mark required" }, words.required)),
    prose(body.description),
    fieldTable(words.request, fieldsOf(body.schema)),
    isClosed && el("p", { class: "small" }, words.closed),
  ];
}

function responsePart(response) {
  const { status, description, content = {}, headers = {} } = response;
  const rows = Object.entries(headers).map(([name, node]) => {
    const header = resolve(node);
    return { ...header, name, node: header.schema ?? {} };
  });
  const kind = /^[1-5]/.test(status) ? `s${status[0]}` : "s5";
  return el("details", { class: "response", open: status.startsWith("2") },
    el("summary", {}, el("span", { class: `status ${kind}` }, status), " ", description,
      Object.keys(content).map((type) => [" ", el("code", { class: "media" }, type)])),
    Object.entries(content).map(([type, media]) => {
      const examples = examplesOf(media).map(([name, value]) => {
        const text = typeof value === "string" ? value : pretty(value);
        return codeBlock(`${words.example} ${name}`, colored(text));
      });
      return [media.schema && fieldTable(type, fieldsOf(media.schema), true), examples];
    }),
    Object.keys(content).length === 0 && el("p", { class: "small" }, words.noBody),
    rows.length > 0 && el("details", {},
      el("summary", { class: "small" }, words.headers, " ", rows.map(({ name }) => name).join(", ")),
      fieldTable(words.headers, rows, true)));
}

// Trying one out

/** The request that the inputs describe: `{url, headers, body}`. */
function composed(operation, inputs) {
  let { path } = operation;
  const query = new URLSearchParams();
  const headers = {};
  for (const [parameter, { value }] of inputs.parameters) {
    const { name } = parameter;
    if (parameter.in === "path") path = path.replace(`{${name}}`, encodeURIComponent(value));
    else if (value && parameter.in === "query") query.append(name, value);
    else if (value && parameter.in === "header") headers[name] = value;
  }
  const server = (spec.servers?.[0]?.url ?? "").replace(/\/$/, "");
  const url = new URL(server + path, page("source").href);
  url.search = query;
  if (inputs.body) headers["Content-Type"] = operation.body.type;
  if (inputs.accept) headers.Accept = inputs.accept.value;
  return { url, headers, body: inputs.body?.value };
}

const quoted = (text) => `'${text.replaceAll("'", `'\\''`)}'`;

/** The same request for a shell; the token stays out of it, since such lines get pasted about. */
function curl(operation, inputs) {
  const { url, headers, body } = composed(operation, inputs);
  const lines = [`curl -i -X ${operation.method} ${quoted(url.href)}`];
  if (operation.isSecured) lines.push('-H "Authorization: Bearer $ACCESS_TOKEN"');
  for (const [name, value] of Object.entries(headers)) lines.push(`-H ${quoted(`${name}: ${value}`)}`);
  if (body) lines.push(`-d ${quoted(body)}`);
  return lines.join(" \\\n  ");
}

function tryPart(operation) {
  const inputs = { parameters: new Map() };
  const fields = operation.parameters.map((parameter) => {
    const input = parameterInput(parameter);
    inputs.parameters.set(parameter, input);
    return el("label", {}, el("code", {}, parameter.name), input);
  });
  if (operation.body) {
    const text = pretty(examplesOf(operation.body, true)[0][1]);
    const rows = text.split("\n").length + 1;
    inputs.body = el("textarea", { rows, spellcheck: "false", autocomplete: "off" }, text);
    fields.push(el("label", {}, words.request, inputs.body));
  }
  if (operation.accepts.length > 1) {
    inputs.accept = el("select", {}, operation.accepts.map((type) => el("option", {}, type)));
    fields.push(el("label", {}, words.accept, inputs.accept));
  }
  const line = el("code", {}, curl(operation, inputs));
  // Only the first line is announced to a screen reader; an answer can be long.
  const output = el("div", { class: "answer" }, el("p", { role: "status" }), el("div"));
  const button = el("button", { class: "send" }, words.send);
  let running = null;
  const submit = async (event) => {
    event.preventDefault();
    if (running) return running.abort();
    running = new AbortController();
    button.textContent = words.cancel;
    await send(operation, inputs, output, running.signal);
    button.textContent = words.send;
    running = null;
  };
  const rewrite = () => (line.textContent = curl(operation, inputs));
  return [
    codeBlock("curl", line),
    el("details", { class: "try" }, el("summary", {}, words.attempt),
      el("form", { submit, input: rewrite }, fields, button), output),
  ];
}

function parameterInput(parameter) {
  const schema = schemaOf(parameter.schema);
  const example = examplesOf(parameter)[0][1];
  const value = parameter.required ? compact(example) : "";
  if (schema.enum) {
    const values = parameter.required ? schema.enum : ["", ...schema.enum];
    return el("select", {}, values.map((choice) => el("option", {}, compact(choice))));
  }
  // Only an empty path would be another address; everything else is the service's to refuse.
  const required = parameter.in === "path";
  return el("input", { value, required, spellcheck: "false", autocomplete: "off" });
}

async function send(operation, inputs, output, signal) {
  const { method, isSecured } = operation;
  const { url, headers, body } = composed(operation, inputs);
  const token = page("token").value.trim();
  const [state, answer] = output.children;
  if (isSecured && token) headers.Authorization = `Bearer ${token}`;
  state.replaceChildren(words.sending);
  answer.replaceChildren();
  if (isSecured && !token) answer.append(el("p", { class: "small" }, words.tokenMissing));
  const began = performance.now();
  try {
    const options = { method, headers, body, signal, credentials: "omit", cache: "no-store" };
    const response = await fetch(url, options);
    const took = el("span", { class: "took" });
    const kind = `status s${String(response.status)[0]}`;
    const status = el("span", { class: kind }, `${response.status} ${response.statusText}`);
    const lines = [...response.headers].map(([name, value]) => `${name}: ${value}`);
    const pre = el("pre");
    state.replaceChildren(status, " ", took);
    answer.append(
      el("details", {}, el("summary", {}, words.headers), el("pre", {}, lines.join("\n"))),
      el("h5", {}, words.body), pre);
    const text = await readInto(pre, response);
    took.textContent = `${Math.round(performance.now() - began)} ms`;
    if (!text) pre.replaceWith(el("p", { class: "small" }, words.noBody));
    else showJSON(response, text, pre);
  } catch (error) {
    state.replaceChildren(el("span", { class: "failed" }, words.failed, error.message));
  }
}

/** Show an answer's text while it comes, for streams, and give it back when it is complete. */
async function readInto(pre, response) {
  if (!response.body) return "";
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let part = await reader.read(); !part.done; part = await reader.read()) pre.append(part.value);
  return pre.textContent;
}

/** Lay JSON out, and offer the access token of a new session to the box for it. */
function showJSON(response, text, pre) {
  if (!/[/+]json\b/.test(response.headers.get("Content-Type") ?? "")) return;
  const value = JSON.parse(text);
  pre.replaceChildren(...colored(pretty(value)));
  if (response.status !== 200 || typeof value.access_token !== "string") return;
  const button = el("button", { type: "button", class: "adopt" }, words.adopt);
  button.addEventListener("click", () => {
    keepToken(value.access_token);
    button.textContent = words.adopted;
  });
  pre.before(button);
}

/** The token lives as long as the tab; without storage, as long as the page. */
function keepToken(token) {
  page("token").value = token;
  try {
    if (token) sessionStorage.setItem(TOKEN_KEY, token);
    else sessionStorage.removeItem(TOKEN_KEY);
  } catch { /* The browser keeps nothing for this site. */ }
}

function keptToken() {
  try {
    return sessionStorage.getItem(TOKEN_KEY) ?? "";
  } catch {
    return "";
  }
}

// The page

function show(operations) {
  const prefix = commonPrefix(operations.map(({ path }) => path));
  const inDocument = (spec.tags ?? []).map(({ name }) => name);
  const tags = [...new Set([...inDocument, ...operations.map(({ tag }) => tag)])];
  const entries = [];
  const groups = tags.map((tag) => {
    const id = `tag-${tag.replace(/\s+/g, "-")}`;
    const members = operations.filter((operation) => operation.tag === tag);
    for (const operation of members) {
      const link = el("a", { href: `#${operation.id}`, title: operation.summary },
        methodMark(operation), el("span", {}, operation.path.slice(prefix.length)),
        operation.isSecured && lock());
      const section = operationSection(operation, prefix);
      const { method, path, summary = "" } = operation;
      const text = `${method} ${path} ${operation.id} ${tag} ${summary}`.toLowerCase();
      entries.push({ tag, text, section, item: el("li", {}, link), link });
    }
    const mine = entries.filter((entry) => entry.tag === tag);
    const about = spec.tags?.find(({ name }) => name === tag)?.description;
    return {
      mine,
      part: el("section", { "aria-labelledby": id },
        el("h2", { id }, tag), prose(about), mine.map(({ section }) => section)),
      list: el("div", {}, el("h2", {}, el("a", { href: `#${id}` }, tag)),
        el("ul", {}, mine.map(({ item }) => item))),
    };
  }).filter(({ mine }) => mine.length);
  page("index").replaceChildren(...groups.map(({ list }) => list));
  page("state").replaceWith(
    ...prose(spec.info?.description),
    el("p", { class: "small" }, words.base, " ", el("code", {}, prefix || "/")),
    ...groups.map(({ part }) => part));
  page("filter").addEventListener("input", () => filter(groups));
  follow(entries);
}

function filter(groups) {
  const wanted = page("filter").value.toLowerCase().split(/\s+/);
  let count = 0;
  for (const { mine, part, list } of groups) {
    for (const { text, section, item } of mine) {
      section.hidden = item.hidden = !wanted.every((word) => text.includes(word));
    }
    const left = mine.filter(({ section }) => !section.hidden).length;
    part.hidden = list.hidden = !left;
    count += left;
  }
  page("count").textContent = words.found(count);
  page("count").classList.toggle("unseen", count > 0);
}

/** Mark the operation being read in the side navigation. */
function follow(entries) {
  const observer = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) {
      const { link } = entries.find(({ section }) => section === target);
      if (isIntersecting) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  }, { rootMargin: "-20% 0px -79% 0px" });
  for (const { section } of entries) observer.observe(section);
}

function openMenu(isOpen) {
  page("menu").setAttribute("aria-expanded", isOpen);
  page("sidebar").classList.toggle("open", isOpen);
}

function prepare() {
  document.documentElement.lang = language;
  for (const node of document.querySelectorAll("[data-word]")) {
    node.textContent = words[node.dataset.word];
  }
  page("filter").placeholder = words.filterHint;
  page("token").title = words.tokenNote;
  for (const name of ["menu", "access", "sidebar"]) page(name).hidden = false;
  // The bar wraps on narrow screens; what sticks below it, and where anchors stop, depends on it.
  const bar = document.querySelector("header");
  const measure = () => document.documentElement.style.setProperty("--bar", `${bar.offsetHeight}px`);
  new ResizeObserver(measure).observe(bar);
  keepToken(keptToken());
  page("token").addEventListener("input", () => keepToken(page("token").value.trim()));
  page("forget").addEventListener("click", () => keepToken(""));
  page("menu").addEventListener("click", () =>
    openMenu(page("menu").getAttribute("aria-expanded") !== "true"));
  page("index").addEventListener("click", (event) => event.target.closest("a") && openMenu(false));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") openMenu(false);
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.target.closest("input, textarea, select")) return;
    event.preventDefault();
    openMenu(true);
    page("filter").focus();
  });
}

prepare();
page("state").textContent = words.loading;
try {
  const response = await fetch(page("source").href);
  if (!response.ok) throw new Error(`${response.status} ${response.statusText}`);
  spec = await response.json();
  lookUpIn(spec);
  document.title = page("title").textContent = spec.info?.title ?? "API";
  page("version").textContent = spec.info?.version ?? "";
  show(readOperations());
  // The browser looked for the address's anchor before it was there.
  document.getElementById(decodeURIComponent(location.hash.slice(1)))
    ?.scrollIntoView({ behavior: "instant" });
} catch (error) {
  page("state")?.replaceChildren(words.broken, error.message);
  console.error(error);
}
