// An answer of the agent, as its events come or as it is kept.
import { button, el, whisper } from "./dom.mjs";
import { Growing } from "./markdown.mjs";

export const isLast = ({ type }) => type === "RUN_FINISHED" || type === "RUN_ERROR";

export class Answer {
	#parts = new Map(); // texts, thoughts and calls, by their kind and id
	#last; // the text that grows

	constructor() {
		this.state = el("p.note");
		this.body = el("div");
		this.element = el("article.answer", {}, el("h3.unseen", {}, "Agent"), this.body, this.state);
		this.resume();
	}

	take(event) {
		const { type, message_id: message, tool_call_id: call, delta, error } = event;
		if (type === "TEXT_MESSAGE_CONTENT") (this.#last = this.#text(message)).add(delta);
		else if (type === "REASONING_MESSAGE_CONTENT") this.#thought(message).append(delta);
		else if (type === "TOOL_CALL_START") this.#call(call, event.tool_name);
		else if (type === "TOOL_CALL_ARGS") this.#call(call).children[1].append(delta);
		else if (type === "TOOL_CALL_RESULT") this.#result(call, event.result);
		else if (isLast(event)) {
			this.end(error);
			whisper("Answer complete: {0}", error ?? this.#last?.text ?? "");
		}
	}

	keep({ id, content, reasoning, tool_calls: calls, error }) {
		if (reasoning) this.#thought(id).append(reasoning);
		if (content) this.#text(id).add(content);
		for (const { tool_call_id: call, tool_name: name, arguments: args, result } of calls ?? []) {
			this.#call(call, name).children[1].append(args);
			if (result != null) this.#result(call, result);
		}
		this.end(error);
	}

	/** No more will come; `error` says why it is not whole. */
	end(error = "") {
		for (const part of this.#parts.values()) part.draw?.();
		this.#show(null, error ?? "");
	}

	lose(t, given, readOn) {
		this.#show(null, el("span", { t, given }), button("Read on", readOn, "quiet"));
	}

	resume() {
		this.#show("true", el("span", "Answering…"));
	}

	#show(isBusy, ...what) {
		this.element.ariaBusy = isBusy;
		this.state.replaceChildren(...what);
	}

	#part(key, element, part = element) {
		if (!this.#parts.has(key)) {
			this.#parts.set(key, part);
			this.body.append(element);
		}
		return this.#parts.get(key);
	}

	#text(id) {
		const place = el("div.text");
		return this.#part(`text ${id}`, place, new Growing(place));
	}

	#thought(id) {
		const words = el("p");
		return this.#part(`thought ${id}`, el("details.fold", {}, el("summary", "Reasoning"), words), words);
	}

	#call(id, name) {
		const summary = el("summary", { t: "Tool {0}", given: [name] });
		const inside = el("dl", {}, el("dt", "Arguments"), el("dd"));
		return this.#part(`call ${id}`, el("details.fold", {}, summary, inside), inside);
	}

	#result(id, result) {
		this.#call(id).append(el("dt", "Result"), el("dd", {}, result));
	}
}
