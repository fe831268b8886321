// Markdown as models write it, as DOM nodes: no word of a model becomes HTML, nothing is loaded, and
// the time is linear in the text. So what does not close within 500 characters is no pair.
import { button, copy, el } from "./dom.mjs";

const DEPTH = 5; // of quotes and lists in each other
const INLINE = new RegExp([
	/\\([!-\/:-@[-`{-~])/,
	/(`{1,2})(?!`)([^\n]{1,500}?)(?<!`)\2(?!`)/,
	/\*\*(?=[^\s*])([^]{1,500}?)\*\*(?!\*)/,
	/\*(?=[^\s*])([^*]{1,500})\*/,
	/(?<![\p{L}\p{N}_])_(?=[^\s_])([^_]{1,500})_(?![\p{L}\p{N}_])/u,
	/!?\[([^\[\]]{1,300})\]\(([^()\s]{1,500}(?:\([^()\s]{0,99}\)[^()\s]{0,99})?)\)/,
	/(https?:\/\/[^\s<>"'`\])*，。；）]{1,500})/,
].map((each) => each.source).join("|"), "gu");
const FENCE = /^ {0,3}(`{3,}|~{3,})[^`]*$/;
const HEADING = /^ {0,3}(#{1,6}) +(.*)$/;
const RULE = /^ {0,3}([-*_])(?: *\1){2,} *$/;
const QUOTE = /^ {0,3}> ?/;
const ITEM = /^( *)([-*+]|\d{1,9}[.)])( +|$)/;

function link(text, address) {
	const url = URL.canParse(address) && new URL(address);
	return /^https?:$/.test(url?.protocol)
		? el("a", { href: url.href, target: "_blank", rel: "noopener noreferrer" }, text) : null;
}

function inline(text, depth = 0) {
	const made = [];
	let at = 0;
	for (const found of depth < DEPTH ? text.matchAll(INLINE) : []) {
		const [all, escaped, , code, strong, em, em2 = em, label, address, bare] = found;
		const node = escaped ?? (code ? el("code", {}, code.replace(/^ (.+) $/, "$1"))
			: strong ? el("strong", {}, ...inline(strong, depth + 1))
			: em2 ? el("em", {}, ...inline(em2, depth + 1))
			: link(label ?? bare, address ?? bare));
		if (!node) continue;
		made.push(text.slice(at, found.index), node);
		at = found.index + all.length;
	}
	return [...made, text.slice(at)].filter(Boolean);
}

const indent = (line) => line.match(/^ */)[0].length;
const begins = (line) => !line.trim() || [FENCE, HEADING, RULE, QUOTE, ITEM].some((each) => each.test(line));

function blocks(lines, depth = 0) {
	const made = [];
	const isDeep = depth >= DEPTH;
	let at = 0;
	const take = (holds) => {
		const from = at;
		while (at < lines.length && holds(lines[at], lines[at - 1])) at++;
		return lines.slice(from, at);
	};
	const list = ([, { length: outer }, mark]) => {
		const number = parseInt(mark);
		const items = isNaN(number) ? el("ul") : el("ol", { start: number });
		for (let item; (item = lines[at]?.match(ITEM)); ) {
			if (isNaN(parseInt(item[2])) !== isNaN(number) || Math.abs(item[1].length - outer) > 1) break;
			const [{ length: inner }, first] = [item[0], lines[at++]];
			const rest = take((line, before) => indent(line) > outer + 1 || !line.trim() || (!begins(line) && before.trim()));
			const dedented = rest.map((line) => line.slice(Math.min(inner, indent(line))));
			const [p, ...others] = blocks([first.slice(inner), ...dedented], depth + 1);
			items.append(el("li", {}, ...(p?.nodeName === "P" ? p.childNodes : [p]), ...others));
		}
		return items;
	};
	while (at < lines.length) {
		const line = lines[at];
		let found;
		if (!line.trim()) at++;
		else if ((found = line.match(FENCE))) {
			at++;
			const text = take((each) => !(each.trim().startsWith(found[1]) && /^[`~]+$/.test(each.trim()))).join("\n");
			at++;
			made.push(el("div.code", {}, el("pre", { tabindex: 0 }, el("code", {}, text)), button("Copy", () => copy(text))));
		} else if ((found = line.match(HEADING))) {
			at++;
			made.push(el(`h${Math.min(6, found[1].length + 3)}`, {}, ...inline(found[2].trim())));
		} else if (RULE.test(line)) {
			at++;
			made.push(el("hr"));
		} else if (!isDeep && QUOTE.test(line)) {
			const inner = take((each) => QUOTE.test(each)).map((each) => each.replace(QUOTE, ""));
			made.push(el("blockquote", {}, ...blocks(inner, depth + 1)));
		} else if (!isDeep && (found = line.match(ITEM))) made.push(list(found));
		else if (/^ *\|/.test(line)) {
			made.push(el("pre", {}, take((each) => /^ *\|/.test(each)).join("\n")));
		} else {
			at++;
			made.push(el("p", {}, ...inline([line, ...take((each) => !begins(each))].join("\n").trim())));
		}
	}
	return made;
}

/** The nodes of a text in Markdown. */
export const render = (text) => blocks(text.replace(/\r\n?/g, "\n").replaceAll("\t", "    ").split("\n"));

/** Shows a text that grows, and takes a sixth of the time for it at most, however long it is. */
export class Growing {
	text = "";
	cost = 0;

	constructor(place) {
		this.place = place;
	}

	add(delta) {
		this.text += delta;
		this.timer ??= setTimeout(() => this.draw(), Math.max(30, 5 * this.cost));
	}

	draw() {
		clearTimeout(this.timer);
		this.timer = null;
		const began = performance.now();
		this.place.replaceChildren(...render(this.text));
		this.place.dispatchEvent(new Event("grown", { bubbles: true }));
		this.cost = performance.now() - began;
	}
}
