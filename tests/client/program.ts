// Uses each member of the client, as a program of a stranger's would.
import { Client, Problem, type Fault, type Options, type RunEvent, type User } from "./client.mjs";

const kept = new Map<string, string>();
const options: Options = {
  base: process.env.BASE!,
  language: "en",
  storage: {
    getItem: (key) => kept.get(key) ?? null,
    setItem: (key, value) => void kept.set(key, value),
    removeItem: (key) => void kept.delete(key),
  },
  onRequest: ({ method, url, headers, body }, response) => {
    seen.push(`${method} ${new URL(url).pathname} ${response?.status ?? ""}`.trim());
    const sizes: number[] = [Object.keys(headers).length, body?.length ?? 0];
    if (sizes.some((size) => size < 0)) throw new Error("impossible");
  },
};
const seen: string[] = [];
const told: string[] = [];
const client = new Client(options);
client.addEventListener("signedin", () => told.push("signedin"));
client.addEventListener("signedout", (event: Event) => told.push(event.type));

async function refused(promise: Promise<unknown>): Promise<Problem> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof Problem) return error;
  }
  throw new Error("was not refused");
}

const email = "ada@example.org";
const weak = await refused(client.signUp({ username: "ada", email, password: "1" }));
const fault: Fault | undefined = weak.errors[0];
const [status, title, detail]: [number, string, string] = [weak.status, weak.title, weak.detail];
const [code, later]: [string | undefined, number | undefined] = [weak.code, weak.retryAfter];

await client.signUp({ username: "ada", email, password: "correct horse" });
let mail: { text: string } | undefined;
for (let tries = 0; !mail && tries < 100; tries++) {
  await new Promise((go) => setTimeout(go, 100));
  const answer = await fetch(`${process.env.BASE}/page/outbox`);
  mail = ((await answer.json()) as { mails: { text: string }[] }).mails[0];
}
const user: User = await client.verify(email, /Code: (\d{6})/.exec(mail!.text)![1]!);

const events: RunEvent[] = [];
const sessionId: string = crypto.randomUUID();
const signal: AbortSignal = new AbortController().signal;
const asked = { sessionId, signal, headers: { "X-Request-ID": "mine" }, body: {} };
for await (const event of client.chat("What is 6 * 7?", asked)) events.push(event);
const runId: string = events[0]!.data.run_id;
let again = 0;
for await (const { id } of client.follow(sessionId, runId, { after: 1, signal })) again = id;
await client.stop(sessionId, runId);
const me: { username: string } = await client.request("GET", "/users/me", undefined, { signal });
const resent = await refused(client.resend("nobody"));
await client.signOut();
const gone: User | null = client.user;
const back: User = await client.signIn(email, "correct horse");
client.language = "zh";

const output: string = events.at(-1)!.data.output;
console.log(JSON.stringify({
  ...{ fault, status, title, detail, code, later, user, output, again, last: events.at(-1)!.id },
  ...{ me, resent: resent.code, gone, back, told, seen: seen.length },
}));
