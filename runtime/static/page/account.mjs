// The account: signing up, beside the mail with the code, and signing in; then what is known of it.
import { $, ask, button, el, fill, form, say, whisper } from "./dom.mjs";
import { client } from "./wire.mjs";

const PENDING = "page.pending"; // the address whose code is awaited, across a reload
const POLLS = 600; // one a second, for as long as a code is good

const EMAIL = { name: "email", t: "Email", type: "email", autocomplete: "username" };
const CODE = { name: "token", t: "Code", type: "text", inputmode: "numeric", autocomplete: "one-time-code" };
const USERNAME = { name: "username", t: "Username", type: "text" };
const PASSWORD = { name: "password", t: "Password", type: "password", autocomplete: "current-password" };
const NEW_PASSWORD = { ...PASSWORD, autocomplete: "new-password" };

let waiting = new AbortController();

/** Show the first form, or the one whose code is awaited. */
export function showEntry() {
	const email = sessionStorage.getItem(PENDING);
	if (email) enterCode({ email });
	else signUp();
}

export function hideEntry() {
	waiting.abort();
	sessionStorage.removeItem(PENDING);
	$("#mail").hidden = true;
	$("#entry").replaceChildren();
	$("#mails").replaceChildren();
}

/** Show a form; `links` are words, and what a press on them does. */
function show(t, { email, links, ...rest }) {
	const isMoved = $("#entry").contains(document.activeElement);
	hideEntry();
	const buttons = Object.entries(links).map(([key, task]) => button(key, task, "quiet"));
	const sent = email && el("p", { t: "codeSent", given: [email] });
	$("#entry").append(el("h2", t), sent ?? "", form({ action: t, ...rest }), ...buttons);
	if (isMoved) $("#entry input").focus();
	if (email) awaitMail(email);
}

const signUp = () => show("Sign up", {
	fields: [USERNAME, { ...EMAIL, autocomplete: "email" }, NEW_PASSWORD],
	submit: (values) => client.signUp(values).then(() => enterCode(values)),
	links: { "Have an account? Sign in": signIn },
});

const signIn = () => show("Sign in", {
	fields: [EMAIL, PASSWORD],
	submit: ({ email, password }) => client.signIn(email, password),
	links: { "No account yet? Sign up": signUp },
});

function enterCode({ email }) {
	show("Check your mail", {
		email,
		fields: [CODE],
		action: "Finish signing up",
		submit: ({ token }) => client.verify(email, token),
		links: { "Send it again": () => client.resend(email).then(() => say("Sent again.")), Back: signUp },
	});
	sessionStorage.setItem(PENDING, email);
}

/** Show the mails to an address as they land, if the service shows them to this machine. */
async function awaitMail(email) {
	const { signal } = (waiting = new AbortController());
	const known = new Set();
	for (let poll = 0; poll < POLLS && !signal.aborted; poll++) {
		const answer = await fetch("/page/outbox", { signal }).catch(() => null);
		const { mails = [] } = answer?.ok ? await answer.json().catch(() => ({})) : {};
		if (signal.aborted || answer?.status === 404) return;
		$("#mail").hidden = false;
		for (const mail of mails.reverse()) {
			const key = mail.at + mail.text;
			if (known.has(key) || mail.to.toLowerCase() !== email.toLowerCase()) continue;
			known.add(key);
			$("#mails").prepend(letter(mail));
			whisper("A mail has arrived: {0}", mail.subject);
		}
		await new Promise((go) => setTimeout(go, 1000));
	}
}

function letter({ subject, text, at }) {
	const codes = new Set([...text.matchAll(/^(?:Code: |验证码：)(\d{6})\s*$/gm)].map(([, code]) => code));
	const use = (code) => button("Use code {0}", () => {
		const [input, next] = $("#entry form").elements;
		input.value = code;
		next.focus();
	}, "main", { given: [code] });
	const body = el("pre", { tabindex: 0 }, text);
	return el("article", {}, el("time", { datetime: at }), el("h3", {}, subject), ...[...codes].map(use), body);
}

export async function showAccount() {
	$("#profile").replaceChildren(
		el("div", { id: "me" }),
		list("Sessions", "/auth/sessions", "sessions", session),
		list("Security events", "/users/me/events", "events", event),
		admin(),
		el("details.panel", {}, el("summary", "Your data"), button("Export data", download), button("Erase account", erase, "danger")),
	);
	showProfile(await client.request("GET", "/users/me"));
}

function showProfile(profile) {
	const { username, bio } = profile;
	$("#me")?.replaceChildren(
		el("h2", {}, username),
		el("p.note", {}, client.user?.email ?? ""), el("p", {}, bio ?? ""), button("Edit profile", () => edit(profile)),
	);
}

function edit({ username, avatar_url, bio }) {
	ask({
		t: "Edit profile",
		fields: [
			{ ...USERNAME, value: username },
			{ name: "avatar_url", t: "Avatar URL", type: "url", value: avatar_url },
			{ name: "bio", t: "Bio", value: bio, maxlength: 200, rows: 3 },
		],
		action: "Save",
		submit: async (values) => {
			for (const name of ["avatar_url", "bio"]) values[name] ||= null;
			showProfile(await client.request("PATCH", "/users/me", values));
		},
	});
}

// A list that is read when it is unfolded, and when `search` changes.
function list(t, path, member, item, search) {
	const items = el("ul");
	const made = el("details.panel", {}, el("summary", t), search, items);
	const query = () => (search?.value ? `&query=${encodeURIComponent(search.value)}` : "");
	const read = (cursor) => client.request("GET", `${path}?limit=10${query()}${cursor}`);
	const load = () => made.open
		&& fill(items, read, member, item).catch((error) => items.replaceChildren(el("li", {}, error.message)));
	for (const type of ["toggle", "change"]) made.addEventListener(type, load);
	return made;
}

// What the service lets administrators alone see and do.
function admin() {
	const told = el("pre", { tabindex: 0 });
	const parts = ["runs", "mails", "limits", "health"].map((part) => button(part, async () => {
		told.textContent = JSON.stringify(await client.request("GET", `/admin/${part}`), null, 1);
	}, "quiet"));
	const made = list("Administration", "/admin/users", "users", account, el("input", { type: "search", label: "Search" }));
	made.append(...parts, told);
	return made;
}

function account({ id, username, email, disabled_at: off }) {
	const act = (t, method, path, body) => button(t, () => ask({
		t, text: "{0}", given: [email], danger: true,
		submit: async () => {
			await client.request(method, `/admin/users/${id}${path}`, body);
			$("[type=search]").dispatchEvent(new Event("change", { bubbles: true }));
		},
	}));
	return el("li", {}, el("p", {}, username), el("p.note", {}, email),
		act(off ? "Enable" : "Disable", "PATCH", "", { disabled: !off }), act("End sessions", "DELETE", "/sessions"),
		act("Erase account", "DELETE", ""));
}

function session({ id, is_current: isCurrent, last_network: network, last_used_at: at, ...places }) {
	const device = places.last_device ?? places.device;
	const end = button("End", async () => {
		await client.request("DELETE", `/auth/sessions/${id}`);
		item.closest("details").firstChild.focus();
		item.remove();
	}, "quiet", { label: "End the session on {0}", given: [device ?? network] });
	const item = el("li", {},
		isCurrent ? el("span.badge", "This one") : end, el("b", {}, device ?? "–"),
		el("p.note", {}, `${network} · `, el("time", { datetime: at })));
	return item;
}

function event({ type, created_at: at, network, device }) {
	const where = [network, device].filter(Boolean).map((each) => ` · ${each}`);
	return el("li", {}, el("b", type.replaceAll("_", " ")), el("p.note", {}, el("time", { datetime: at }), ...where));
}

async function download() {
	const everything = await client.request("GET", "/users/me/export");
	const url = URL.createObjectURL(new Blob([JSON.stringify(everything, null, 2)]));
	el("a", { href: url, download: "export.json" }).click();
	setTimeout(() => URL.revokeObjectURL(url), 60000);
}

function erase() {
	ask({
		t: "Erase account", text: "eraseText", danger: true,
		fields: [{ ...PASSWORD, name: "current_password" }],
		submit: async (values) => {
			await client.request("DELETE", "/users/me", values);
			await client.signOut();
			say("Your account is erased.");
		},
	});
}
