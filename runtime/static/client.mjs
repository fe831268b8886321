// The service's client, for browsers and Node 20 or later. Its types stand in client.d.ts.

// How often a request, or a stream without a new event, is tried, and for how long it may wait.
const REQUEST = { tries: 3, longestSeconds: 10 };
const STREAM = { tries: 8, longestSeconds: 120, connections: 1000 };
const HOUR_MS = 3_600_000; // no connection lasts longer
const SILENCE_MS = 25_000; // a stream has a heartbeat every ten seconds
const SENTENCES = {
	unreachable: ["无法连接到服务，请稍后重试", "The service cannot be reached. Please try again later."],
	signed_out: ["登录已结束，请重新登录", "You are signed out. Please sign in again."],
};

/** Any failure, as the service told it or with a sentence of ours. Status 0: no answer came. */
export class Problem extends Error {
	constructor(status, { title = "", detail, code, errors }, { retryAfter, cause } = {}) {
		super(String(detail), { cause });
		this.errors = [errors ?? []].flat().map((each) => ({ pointer: "", ...each }));
		Object.assign(this, { name: "Problem", status, title, detail: this.message, code, retryAfter });
	}
}

export class Client extends EventTarget {
	#base; #key; #storage; #onRequest; #announced; #renewal;
	constructor({ base = "", storage = ownStorage(), language = "", onRequest } = {}) {
		super();
		this.language = language;
		this.#base = `${base.replace(/\/+$/, "")}/api/v1`;
		this.#key = `runtime-api:${this.#base}`; // of the tokens in the storage, and of the lock
		[this.#storage, this.#onRequest] = [storage, onRequest];
		this.#announced = this.user?.id;
		globalThis.addEventListener?.("storage", () => this.#announce()); // by another tab
	}

	get user() { return this.#stored().user ?? null; }
	async signUp(details) { await this.#call("POST", "/auth/verifications", details); }
	async resend(email) { await this.#call("POST", "/auth/verifications/resend", { email }); }
	async #begin(path, body) { return (await this.#call("POST", path, body)).user; }
	async verify(email, token) { return this.#begin("/auth/verifications/verify", { email, token }); }
	async signIn(email, password) {
		const { refresh_token } = this.#stored(); // the last one, which still tells a known device
		return this.#begin("/auth/sessions", { email, password, refresh_token });
	}

	async signOut() {
		const { user, refresh_token } = this.#stored();
		if (!user) return;
		this.#store({}); // whether or not the service can be told
		await this.#call("DELETE", "/auth/sessions", { refresh_token }, { isRepeatable: true });
		if (!this.#stored().refresh_token) this.#store({ refresh_token });
	}

	async request(method, path, body, options) {
		const isRepeatable = method === "GET" || Boolean(options?.headers?.["Idempotency-Key"]);
		return this.#call(method, path, body, { isRepeatable, userId: this.user?.id, ...options });
	}

	async *chat(message, { sessionId: session_id = uuid(), signal, headers, body } = {}) {
		const options = { signal, headers: { "Idempotency-Key": uuid(), ...headers } }; // one run
		yield* this.#events("POST", "/agent-chats", { message, session_id, ...body }, options);
	}

	async *follow(sessionId, runId, { after = 0, signal } = {}) {
		const run = runPath(sessionId, runId);
		const isOver = async () => (await this.request("GET", run, undefined, { signal })).finished_at;
		yield* this.#events("GET", `${run}/events`, undefined, { signal, after, isOver });
	}

	async stop(...ids) {
		await this.request("POST", `${runPath(...ids)}/cancel`, undefined, { isRepeatable: true });
	}

	/** The JSON of an answer, or null. Tokens in it are kept, unless `mayKeep` says no. */
	async #call(method, path, body, { mayKeep, isRepeatable = mayKeep, ...options } = {}) {
		for (let failures = 1; ; failures++) {
			try {
				const guard = mayKeep && new AbortController();
				const answer = await this.#open(method, path, body, { ...options, guard });
				const isOurs = mayKeep ?? (() => !options.userId || options.userId === this.user?.id);
				const isKept = answer?.refresh_token && isOurs(); // not another user's
				if (isKept) this.#store({ ...answer, renew_at: Date.now() + answer.expires_in * 950 });
				return answer;
			} catch (problem) {
				if (!isRepeatable && !problem.retryAfter) throw problem; // with it, nothing was done
				await pause(problem, failures, REQUEST, options.signal);
			}
		}
	}

	/** The events of a run, each once, until the last, over as many connections as it takes. */
	async *#events(method, path, body, { signal, headers, after = 0, isOver }) {
		let [last, failures, wasOver, userId] = [after, 0, false, this.user?.id];
		for (let opened = 1; ; opened++) {
			const [before, guard] = [last, new AbortController()];
			const asked = { ...headers, ...(last && { "Last-Event-ID": String(last) }) };
			const options = { userId, signal, guard, headers: asked, isStream: true };
			try {
				const response = await this.#open(method, path, body, options);
				for await (const event of this.#frames(response, options)) {
					if (event.id > last) { failures = 0; yield event; }
					last = Math.max(last, event.id);
					if (/^RUN_(FINISHED|ERROR)$/.test(event.data.type)) return;
				}
				// Nothing came: all was there before, or the connection was cut, which is tried once.
				if (wasOver && last === before) return;
				wasOver = last === before && Boolean(await isOver?.());
				throw this.#problem("unreachable");
			} catch (problem) {
				failures = opened < STREAM.connections ? failures + 1 : STREAM.tries;
				await pause(problem, failures, STREAM, signal);
			} finally { guard.abort(); }
		}
	}

	/** The events of one connection. */
	async *#frames(response, { signal, guard }) {
		const [reader, decoder] = [response.body.getReader(), new TextDecoder()];
		const end = () => reader.cancel().catch(() => {}); // Node's fetch misses some aborts.
		guard.signal.addEventListener("abort", end);
		signal?.addEventListener("abort", end, { signal: guard.signal });
		for (let text = "", ends = Date.now() + HOUR_MS; Date.now() < ends; ) {
			const { done, value } = await this.#heard(reader.read(), { signal, guard });
			if (done) return;
			const frames = (text + decoder.decode(value, { stream: true })).split("\n\n");
			text = frames.pop();
			for (const frame of frames) {
				const [, id, data] = /^id: (\d+)\ndata: ([^\n]+)/.exec(frame) ?? []; // or a heartbeat
				if (data) yield { id: Number(id), data: await this.#heard(parsed(data), {}) };
			}
		}
	}

	/** An answer below 400, to `userId` alone, with a fresh token. Throws Problem. */
	async #open(method, path, body, options) {
		this.#announce();
		const pair = this.#stored();
		if (!options.userId) return this.#ask(method, path, body, options);
		// Another user may have signed in while it waited.
		if (pair.user?.id !== options.userId) throw this.#problem("signed_out", 401);
		const fresh = Date.now() < pair.renew_at ? pair : await this.#refresh(pair);
		try {
			return await this.#ask(method, path, body, options, fresh.access_token);
		} catch (problem) {
			// Other 401s are about a code or a password, which must not be tried twice.
			if (problem.code !== "invalid_access_token") throw problem;
			return this.#ask(method, path, body, options, (await this.#refresh(fresh)).access_token);
		}
	}

	async #ask(method, path, body, options, token) {
		const headers = { Accept: options.isStream ? "text/event-stream" : "application/json" };
		const request = { method, url: this.#base + path, headers, body: JSON.stringify(body) };
		if (this.language) headers["Accept-Language"] = this.language;
		if (token) headers.Authorization = `Bearer ${token}`;
		if (request.body) headers["Content-Type"] = "application/json";
		Object.assign(headers, options.headers);
		const signal = AbortSignal.any([options.signal, options.guard?.signal].filter(Boolean));
		const sent = { ...request, signal, redirect: "error", cache: "no-store" };
		this.#onRequest?.(request);
		const response = await this.#heard(fetch(request.url, sent), options);
		const { ok, status, statusText: title, headers: said } = response;
		this.#onRequest?.(request, { status });
		if (ok && options.isStream) return response;
		const text = await this.#heard(response.text(), options);
		const told = text ? await parsed(text).catch(() => undefined) : null;
		if (ok && told !== undefined) return told;
		const retryAfter = Number(said.get("Retry-After")) || undefined;
		if (told?.detail) throw new Problem(status, told, { retryAfter });
		throw this.#problem("unreachable", ok ? 0 : status, { retryAfter, title });
	}

	/** The pair of tokens after a stale one, by one request for all tabs. Only a 401 signs out. */
	async #refresh(stale) {
		const [locks, began] = [globalThis.navigator?.locks, performance.now()];
		const take = () => this.#take(stale, locks && performance.now() - began > 5);
		const signal = AbortSignal.timeout(SILENCE_MS); // The tab that has the lock may be frozen.
		const taken = () => (locks ? locks.request(this.#key, { signal }, take) : take());
		return (this.#renewal ??= this.#heard(taken(), {}).finally(() => (this.#renewal = null)));
	}

	async #take(stale, isLate) {
		const old = { refresh_token: stale.refresh_token };
		const mayKeep = () => this.#stored().access_token === stale.access_token; // not another tab's
		if (isLate && mayKeep()) await news();
		const fail = (problem) => {
			if (problem.status !== 401) throw problem;
			if (mayKeep()) this.#store(old);
		};
		if (mayKeep()) await this.#call("POST", "/auth/sessions/refresh", old, { mayKeep }).catch(fail);
		if (this.user?.id !== stale.user.id) throw this.#problem("signed_out", 401);
		return this.#stored();
	}

	#stored() { return JSON.parse(this.#storage.getItem(this.#key) || "{}"); }
	#store(value) {
		this.#storage.setItem(this.#key, JSON.stringify(value));
		this.#announce();
	}

	#announce() {
		const [before, id] = [this.#announced, this.user?.id];
		this.#announced = id;
		if (id !== before) this.dispatchEvent(new Event(id ? "signedin" : "signedout"));
	}

	/** What is promised. A lost connection is a Problem; a caller's abort stays the caller's. */
	#heard(promise, { signal, guard }) {
		const timer = guard && setTimeout(() => guard.abort(), SILENCE_MS);
		const lost = (cause) => this.#problem("unreachable", 0, { cause });
		const told = (error) => (error instanceof Problem ? error : lost(error));
		const fail = (error) => Promise.reject(signal?.aborted ? signal.reason : told(error));
		return promise.catch(fail).finally(() => clearTimeout(timer));
	}

	#problem(code, status = 0, more = {}) {
		const isEnglish = (this.language || globalThis.navigator?.language || "").startsWith("en");
		return new Problem(status, { code, detail: SENTENCES[code][Number(isEnglish)], ...more }, more);
	}
}

/** Wait before the next try, or throw the problem if there is to be none. */
async function pause(problem, failures, { tries, longestSeconds }, signal) {
	const seconds = Math.max(2 ** failures / 4, problem.retryAfter ?? 0);
	const isTemporary = problem.status === 0 || problem.status === 429 || problem.status > 501;
	if (!isTemporary || failures >= tries || seconds > longestSeconds) throw problem;
	await new Promise((go) => {
		const timer = setTimeout(go, seconds * (1 + Math.random() / 4) * 1000); // not all at once
		const end = () => go(clearTimeout(timer));
		signal?.aborted ? end() : signal?.addEventListener("abort", end, { once: true });
	});
	signal?.throwIfAborted();
}

function ownStorage() {
	try {
		localStorage.getItem("");
		return localStorage;
	} catch { // Node has none, and some browsers keep nothing.
		const kept = new Map();
		return { getItem: (key) => kept.get(key), setItem: (key, value) => kept.set(key, value) };
	}
}

// What another tab has stored may be seen a moment after it has released the lock.
const news = () => new Promise((go) => {
	globalThis.addEventListener?.("storage", go, { once: true });
	setTimeout(go, 200);
});
const parsed = async (text) => JSON.parse(text);
const runPath = (...ids) => `/agent-chats/${ids.map(encodeURIComponent).join("/runs/")}`;
const uuid = () => crypto.randomUUID?.() ?? URL.createObjectURL(new Blob()).slice(-36); // HTTP
