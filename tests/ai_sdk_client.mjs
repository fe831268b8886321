// Runs `useChat` without React: the `Chat` of `@ai-sdk/react` that it is made of, unmodified, the
// version below the `node_modules` that the argument names.
//
// A line of JSON on stdin is one thing that a page does, and a line on stdout what it has then.
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const require = createRequire(`${process.argv[2]}/`);
const load = (name) => import(pathToFileURL(require.resolve(name)).href);
const { Chat } = await load("@ai-sdk/react");
const { DefaultChatTransport } = await load("ai");
const pages = new Map();
console.error = () => {};

class Page {
  constructor({ id, base, pair }) {
    Object.assign(this, { id, base, api: `${base}/agent-chats/ai-sdk`, pair, finished: [], doing: Promise.resolve() });
  }

  // A token that is over is renewed, once, and what was asked is asked again.
  fetch = async (url, options) => {
    const answer = await fetch(url, options);
    if (answer.status !== 401 || !this.pair.refresh_token) return answer;
    const body = JSON.stringify({ refresh_token: this.pair.refresh_token });
    const type = { "Content-Type": "application/json" };
    const renewed = await fetch(`${this.base}/auth/sessions/refresh`, { method: "POST", headers: type, body });
    if (!renewed.ok) return answer;
    this.pair = await renewed.json();
    return fetch(url, { ...options, headers: { ...options.headers, ...this.headers() } });
  };

  headers = () => ({ Authorization: `Bearer ${this.pair.access_token}` });

  async open() {
    const answer = await this.fetch(`${this.api}/${encodeURIComponent(this.id)}/messages`, { headers: this.headers() });
    const { messages } = await answer.json();
    this.chat = new Chat({
      id: this.id,
      messages,
      transport: new DefaultChatTransport({ api: this.api, headers: this.headers, fetch: this.fetch }),
      onFinish: ({ isAbort, isDisconnect, isError }) => this.finished.push({ isAbort, isDisconnect, isError }),
    });
  }

  send = ({ text, messageId }) => this.begin(this.chat.sendMessage({ text, messageId }));
  resume = () => this.begin(this.chat.resumeStream());
  regenerate = ({ messageId }) => this.begin(this.chat.regenerate({ messageId }));
  begin = (doing) => void (this.doing = doing.catch((error) => void (this.failed = String(error))));
  stop = () => this.chat.stop();
  wait = () => this.doing;

  async hear({ text }) {
    while (!JSON.stringify(this.chat.messages.at(-1) ?? "").includes(text))
      await new Promise((go) => setTimeout(go, 5));
  }

  async cancel() {
    await this.chat.stop();
    const url = `${this.base}/agent-chats/${encodeURIComponent(this.id)}/cancel`;
    await this.fetch(url, { method: "POST", headers: this.headers() });
  }

  get state() {
    const { messages, status, error } = this.chat;
    const { failed, finished, pair } = this;
    return { messages, status, error: error?.message, failed, finished, pair };
  }
}

for await (const line of createInterface({ input: process.stdin })) {
  const { key, what, ...how } = JSON.parse(line);
  if (what === "open") pages.set(key, new Page(how));
  const page = pages.get(key);
  await page[what](how);
  process.stdout.write(JSON.stringify(page.state) + "\n");
}
