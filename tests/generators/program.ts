// Signs up, verifies, signs in, chats, reads a stream and signs out, with what openapi-typescript makes.
import { existsSync, readFileSync, readdirSync } from "node:fs";
import createClient from "openapi-fetch";
import type { components, paths } from "./schema.js";

type RunEvent = components["schemas"]["RunEvent"];

const [baseUrl = "", outbox = ""] = process.argv.slice(2);
const api = createClient<paths>({ baseUrl, headers: { "Accept-Language": "en" } });
const account = { username: "ada", email: "ada@example.org", password: "correct horse" };

async function mailedCode(): Promise<string> {
  for (let tries = 0; tries < 100; tries++) {
    const files = existsSync(outbox) ? readdirSync(outbox) : [];
    const [file] = files.filter((name) => name.endsWith(".eml"));
    const code = file && /^Code: (\d{6})/m.exec(readFileSync(`${outbox}/${file}`, "utf8"))?.[1];
    if (code) return code;
    await new Promise((wake) => setTimeout(wake, 100));
  }
  throw new Error("no mail");
}

function textOf(event: RunEvent): string {
  return event.type === "TEXT_MESSAGE_CONTENT" ? event.delta : "";
}

await api.POST("/api/v1/auth/verifications", { body: account });
const code = { email: account.email, token: await mailedCode() };
await api.POST("/api/v1/auth/verifications/verify", { body: code });
const signedIn = await api.POST("/api/v1/auth/sessions", { body: { email: account.email, password: account.password } });
if (!signedIn.data) throw new Error(signedIn.error.detail);
const session = signedIn.data;
const headers = { Authorization: `Bearer ${session.access_token}` };
const run = await api.POST("/api/v1/agent-chats", { headers, body: { message: "What is 6 * 7?" } });
if (!run.data || typeof run.data !== "object" || !("events" in run.data)) throw new Error("no run");
const last = run.data.events.at(-1);
console.log(last?.type === "RUN_FINISHED" && last.output === run.data.output);
const stream = await api.POST("/api/v1/agent-chats", {
  headers: { ...headers, Accept: "text/event-stream" },
  body: { message: "What is 6 * 8?" },
  parseAs: "text",
});
const frames = String(stream.data).match(/^data: .+$/gm) ?? [];
const texts = frames.map((frame) => textOf(JSON.parse(frame.slice(6)) as RunEvent));
console.log(texts.join("").endsWith("6 * 8 = 48."));
const me = await api.GET("/api/v1/users/me", { headers });
const bio: string | null | undefined = me.data?.bio;
console.log(bio);
const out = await api.DELETE("/api/v1/auth/sessions", { body: { refresh_token: session.refresh_token } });
console.log(out.response.status);
