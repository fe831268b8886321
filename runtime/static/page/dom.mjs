// Elements, forms and dialogs. Texts become text nodes alone, never HTML.
import { speak, word } from "./words.mjs";

export const $ = (selector) => document.querySelector(selector);

/** An element, as in "p.note". Of `how`, `t`, `label` and `hint` are keys of words, with `given` in
 * them; the rest are attributes, but for null and false. A string is `t`. */
export function el(name, how = {}, ...children) {
	const [tag, kind] = name.split(".");
	const made = document.createElement(tag);
	if (kind) made.className = kind;
	for (const [key, value] of Object.entries(typeof how === "string" ? { t: how } : how)) {
		if (value == null || value === false) continue;
		if (key === "given") made.dataset.given = JSON.stringify(value);
		else if (["t", "label", "hint"].includes(key)) made.dataset[key] = value;
		else made.setAttribute(key, value);
	}
	made.append(...children.filter((child) => child != null));
	speak(made);
	return made;
}

/** Tell a screen reader. */
export const whisper = (...what) => { $("#whisper").textContent = word(...what); };

/** Show it for a few seconds. */
export function say(...what) {
	$("#toast").textContent = word(...what);
	clearTimeout(say.timer);
	say.timer = setTimeout(() => $("#toast").replaceChildren(), 6000);
}

/** Run a task at each press, one at a time, and say what it throws. */
export function press(button, task) {
	button.addEventListener("click", async () => {
		if (button.ariaDisabled) return;
		button.ariaDisabled = "true";
		await Promise.resolve().then(task).catch((error) => error.name === "AbortError" || say(error.message));
		button.ariaDisabled = null;
	});
	return button;
}

export const button = (t, task, kind = "", how = {}) =>
	press(el(`button.${kind}`, { type: "button", t, ...how }), task);

let fields = 0;

function field({ t, type, value, ...how }) {
	const id = `field-${++fields}`;
	const input = el(type ? "input" : "textarea", { id, type, "aria-describedby": `${id}-error`, ...how });
	input.value = value ?? "";
	return el("div", {}, el("label", { for: id, t }), input, el("p.wrong", { id: `${id}-error` }));
}

/** A form, which shows the Problem that `submit(values)` throws, also at its fields. */
export function form({ fields = [], action, danger, submit }) {
	const wrong = el("p.wrong", { role: "alert" });
	const send = el(danger ? "button.danger" : "button.main", action);
	const made = el("form", { novalidate: "" }, ...fields.map(field), wrong, send);
	made.addEventListener("submit", async (event) => {
		event.preventDefault();
		if (send.ariaDisabled) return;
		send.ariaDisabled = "true";
		for (const each of made.querySelectorAll(".wrong")) each.textContent = "";
		for (const each of made.elements) each.ariaInvalid = null;
		try {
			await submit(Object.fromEntries(new FormData(made)));
		} catch (error) {
			wrong.textContent = error.message;
			for (const { pointer, detail } of error.errors ?? []) {
				const input = made.elements[pointer.slice(2)];
				if (!input?.id) continue;
				input.ariaInvalid = "true";
				made.querySelector(`#${input.id}-error`).textContent = detail;
			}
			(made.querySelector("[aria-invalid]") ?? made.elements[0]).focus();
		}
		send.ariaDisabled = null;
	});
	return made;
}

/** Ask in a dialog, which closes once `submit(values)` has returned. */
export function ask({ t, text, given, submit, ...rest }) {
	const dialog = $("dialog");
	const close = () => dialog.close();
	const made = form({ action: t, ...rest, submit: (values) => submit(values).then(close) });
	made.append(button("Cancel", close));
	dialog.replaceChildren(el("h2", { id: "title", t }), el("p", { t: text, given }), made);
	dialog.showModal();
}

/** Append a page of a list, and what leads to the next; `item` makes an element of a row. */
export async function fill(list, read, member, item, cursor = "") {
	const page = await read(cursor && `&cursor=${encodeURIComponent(cursor)}`);
	if (!cursor) list.replaceChildren();
	const items = page[member].map(item);
	list.append(...items);
	if (cursor) items[0]?.querySelector("a, button")?.focus();
	if (page.next_cursor) {
		const more = el("li", {}, button("More", async () => {
			await fill(list, read, member, item, page.next_cursor);
			more.remove();
		}, "quiet"));
		list.append(more);
	}
}

export const copy = (text) =>
	(navigator.clipboard?.writeText(text) ?? Promise.reject()).then(() => say("Copied."), () => say("notCopied"));
