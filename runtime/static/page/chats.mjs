// The chats: their list, the open one, and the run that is read in it.
import { Answer, isLast } from "./answer.mjs";
import { $, ask, button, el, fill, press, whisper } from "./dom.mjs";
import { client, note, showEvent } from "./wire.mjs";
import { instant, word } from "./words.mjs";

let open = ""; // the id of the open chat; a new one has none
let chat = null;
let run = null; // what runs in it: { id, last, answer }
let reading = new AbortController();
let isPinned = true; // to its end

const [list, talk, input, cut, refused] = ["#chat-list", "#talk", "#message", "#cut", "#refused"].map($);
const get = (path, signal) => client.request("GET", `/agent-chats${path}`, undefined, { signal });

/** Read the list and the budget again. */
export async function showChats() {
	const [{ limit, left, resets_at: at }] = await Promise.all([
		get("/budget"), fill(list, (cursor) => get(`?limit=30${cursor}`), "chats", item),
	]).catch(() => [{}]);
	if (!list.firstChild) list.append(el("li.note", "No chats yet"));
	$("#budget").hidden = limit == null;
	if (limit == null) return;
	Object.assign($("meter"), { max: limit, value: left });
	const given = [left.toLocaleString(), limit.toLocaleString(), instant(at)];
	$("#budget").lastChild.replaceWith(el("p.note", { t: "{0} of {1} tokens until {2}", given }));
}

const item = ({ session_id: id, title }) =>
	el("li", {}, el("a", { href: `#${id}`, "aria-current": id === open && "page" }, title));

/** Show a chat, and read on what runs in it; "" is a new one. */
export async function openChat(id) {
	const signal = read();
	setRun(null);
	[open, isPinned, refused.textContent] = [id, true, ""];
	showTitle(null);
	unfold(false);
	talk.replaceChildren();
	for (const link of list.querySelectorAll("a")) link.ariaCurrent = link.hash === `#${id}` ? "page" : null;
	if (!id) {
		const first = button("try1", () => void send(word("try1")));
		return talk.append(el("div.greeting", {}, el("h3", "What would you like to ask?"), first));
	}
	try {
		const path = `/${encodeURIComponent(id)}`;
		const [found, page] = await Promise.all([get(path, signal), get(`${path}/messages`, signal)]);
		if (signal.aborted) return;
		showTitle(found);
		const running = prepend(page, signal);
		if (running) {
			talk.append(running.answer.element);
			setRun(running);
		}
		scroll();
		if (running) await follow(signal);
	} catch (error) {
		if (signal.aborted) return;
		if (error.status === 404) start();
		else talk.append(el("p.wrong", {}, error.message));
	}
}

function start() {
	history.pushState(null, "", location.pathname);
	openChat("");
	input.focus();
}

const unfold = (isListed) => { $("#show-list").ariaExpanded = isListed; };

function showTitle(found) {
	chat = found;
	$("#chat-title").replaceChildren(chat?.title ?? el("span", "New chat"));
	$("#rename").hidden = $("#delete").hidden = !chat;
}

/** Show a page of messages on top. Answers what still runs: its events will show its answer. */
function prepend({ messages, next_cursor: cursor }, signal) {
	const nodes = [];
	const answers = new Map();
	let running = null;
	for (const message of messages) {
		const { run_id: id, role, status } = message;
		if (role === "user") nodes.push(question(message.content, message));
		if (status === "running") running ??= { id, last: 0, answer: new Answer() };
		else if (role === "assistant") {
			if (!answers.has(id)) nodes.push(answers.set(id, new Answer()).get(id).element);
			answers.get(id).keep(message);
		}
	}
	const earlier = cursor && button("Earlier messages", async () => {
		const page = await get(`/${open}/messages?cursor=${encodeURIComponent(cursor)}`, signal);
		const bottom = talk.scrollHeight - talk.scrollTop;
		earlier.remove();
		prepend(page, signal);
		talk.scrollTop = talk.scrollHeight - bottom;
		talk.focus();
	}, "quiet");
	talk.prepend(earlier ?? "", ...nodes);
	return running;
}

/** What was asked, as it was typed; `of` has the id of its run once there is one. */
function question(text, of) {
	const replace = async (message) => {
		if (run) throw Error(word("Answering…"));
		void send(message, of.run_id, asked);
	};
	const edit = () => ask({
		t: "Edit", fields: [{ name: "message", t: "Message", value: text }], action: "Send",
		submit: ({ message }) => replace(message),
	});
	const asked = el("article.question", {}, el("h3.unseen", "You"), el("p", {}, text),
		button("Edit", edit, "quiet"), button("Regenerate", () => replace(text), "quiet"));
	return asked;
}

/** Send a message, and read its answer; what is refused goes back into the field. It takes the place
 * of a run that it `replaces`, shown as `from`. */
async function send(text, replaces, from) {
	if (!text.trim() || run) return;
	const { signal } = reading;
	const of = {};
	const [asked, answer, isNew] = [question(text, of), new Answer(), !open];
	while (from?.nextSibling) from.nextSibling.remove();
	from?.remove();
	if (isNew) talk.replaceChildren();
	talk.append(asked, answer.element);
	input.value = refused.textContent = "";
	input.focus();
	isPinned = true;
	scroll();
	whisper("Answering…");
	// No randomUUID over HTTP.
	open ||= crypto.randomUUID?.() ?? URL.createObjectURL(new Blob()).slice(-36);
	setRun({ last: 0, answer });
	try {
		await take(client.chat(text, { sessionId: open, signal, body: { replaces } }), signal, (id) => {
			of.run_id = id;
			if (!isNew) return;
			history.replaceState(null, "", `#${open}`);
			showTitle({ title: text });
			showChats();
		});
	} catch (error) {
		if (isNew || from) openChat(isNew ? "" : open);
		setRun(null);
		asked.remove();
		answer.element.remove();
		input.value ||= text;
		refused.textContent = error.message;
	}
}

/** End what is read, and answer the signal that ends what is read next. */
function read() {
	reading.abort();
	reading = new AbortController();
	return reading.signal;
}

const follow = (signal) => take(client.follow(open, run.id, { after: run.last, signal }), signal);

/** Take a run's events to its end; raises what came instead of the first one. */
async function take(events, signal, begin) {
	const taken = run;
	try {
		for await (const { id, data } of events) {
			if (signal.aborted) return;
			const isFirst = !taken.id;
			Object.assign(taken, { id: data.run_id, last: id });
			showEvent(id, data);
			taken.answer.take(data);
			scroll();
			if (isFirst) begin?.(data.run_id);
			if (isLast(data)) {
				setRun(null);
				return void showChats();
			}
			if (taken.stops) await stop();
			if (cut.checked) return cutOff();
		}
	} catch (error) {
		if (!signal.aborted && !taken.id) throw error;
	}
	if (!signal.aborted) taken.answer.lose("lost", [], resume);
}

function cutOff() {
	if (!run?.id) return; // At its first event then.
	read();
	note("isCut", run.last);
	run.answer.lose("isCut", [run.last], resume);
}

/** Read on after the last event that was read. */
async function resume() {
	cut.checked = false;
	if (!run?.id) return;
	run.answer.resume();
	note("Resumed after event {0}.", run.last);
	await follow(read());
}

async function stop() {
	run.stops = !run.id;
	if (run.stops) return;
	await client.stop(open, run.id);
	if (cut.checked) await resume();
}

function setRun(next) {
	run = next;
	$("#send").hidden = !!run;
	$("#stop").hidden = !run;
}

function rename() {
	const path = `/agent-chats/${open}`;
	ask({
		t: "Rename",
		fields: [{ name: "title", t: "Title", type: "text", value: chat.title }],
		submit: async (values) => {
			showTitle(await client.request("PATCH", path, values));
			showChats();
		},
	});
}

function remove() {
	const path = `/agent-chats/${open}`;
	ask({
		t: "Delete", text: "deleteText", given: [chat.title], danger: true,
		submit: async () => {
			await client.request("DELETE", path);
			start();
			showChats();
		},
	});
}

function scroll() {
	if (isPinned) talk.scrollTop = talk.scrollHeight;
}

addEventListener("popstate", () => openChat(location.hash.slice(1)));
document.addEventListener("visibilitychange", () => document.hidden || run || !client.user || showChats());
talk.addEventListener("grown", scroll);
talk.addEventListener("scroll", () => {
	isPinned = talk.scrollHeight - talk.scrollTop - talk.clientHeight < 60;
});
$("#composer").addEventListener("submit", (event) => {
	event.preventDefault();
	send(input.value);
});
input.addEventListener("keydown", (event) => {
	// The Enter that ends a word of an input method is composing, and in Safari 229.
	if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
	event.preventDefault();
	send(input.value);
});
cut.addEventListener("change", () => (cut.checked ? cutOff() : resume()));
list.addEventListener("click", () => unfold(false));
press($("#stop"), stop);
press($("#new-chat"), start);
press($("#rename"), rename);
press($("#delete"), remove);
press($("#show-list"), () => unfold(true));
