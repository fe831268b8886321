// What goes over the wire: each request as a line for curl, each event with its number.
import { Client } from "/client.mjs";
import { $, button, copy, el, say } from "./dom.mjs";

const LISTS = [$("#requests"), $("#events")];
const KEPT = 100; // requests, and events: the page does not grow for ever
const SECRET = /"(password|current_password|refresh_token|token)":"(?:[^"\\]|\\.)*"/g;
const known = new WeakMap(); // the place of each request's status

export const client = new Client({ onRequest });

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;

/** A line for a POSIX shell that sends the request again. */
export function curl({ method, url, headers, body }) {
	const parts = ["curl -sgN -X", method, quoted(new URL(url, location).href)];
	for (const [name, value] of new Headers(headers)) parts.push("-H", quoted(`${name}: ${value}`));
	if (body != null) parts.push("--data-raw", quoted(body));
	return parts.join(" ");
}

// No secret stands on the screen.
const shown = (line) => line.replace(/(Bearer .{6})[^']*/i, "$1…").replace(SECRET, '"$1":"…"');

function onRequest(request, response) {
	if (!known.has(request)) known.set(request, addRequest(request));
	if (response) known.get(request).textContent = response.status;
}

function addRequest(request) {
	const status = el("b", {}, "…");
	const line = curl(request);
	const { pathname, search } = new URL(request.url, location);
	const name = `${request.method} ${pathname}${search}`;
	const copies = button("Copy", () => copy(line), "quiet", { label: "Copy {0}", given: [name] });
	append(LISTS[0], el("li", {}, status, ` ${name}`, copies, el("code", {}, shown(line))));
	return status;
}

export function showEvent(id, { type, delta, error, tool_name: name }) {
	const told = (delta ?? error ?? name ?? "").slice(0, 80);
	append(LISTS[1], el("li", {}, el("b", {}, `${id}`), ` ${type} `, el("i", {}, told)));
}

export function note(t, ...given) {
	append(LISTS[1], el("li.mark", { t, given }));
	say(t, ...given);
}

function append(list, ...items) {
	list.append(...items);
	while (list.childElementCount > KEPT) list.firstChild.remove();
	list.scrollTop = list.scrollHeight;
}

$("#wire").addEventListener("toggle", () => LISTS.forEach((list) => append(list)));
