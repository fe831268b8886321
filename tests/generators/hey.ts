// Signs in, chats and signs out, with what @hey-api/openapi-ts makes; `program.ts` has signed up.
import { client } from "./hey/client.gen.js";
import { createRun, createSession, deleteSession } from "./hey/sdk.gen.js";
import type { RunEvent } from "./hey/types.gen.js";

client.setConfig({ baseUrl: process.argv[2] ?? "" });
const body = { email: "ada@example.org", password: "correct horse" };
const { data: session } = await createSession({ body, throwOnError: true });
client.setConfig({ auth: session.access_token });
const run = await createRun({ body: { message: "What is 6 * 7?" } });
const events = (run.data as { events: RunEvent[] }).events;
const last = events.at(-1);
console.log(last?.type === "RUN_FINISHED" && last.output.endsWith("6 * 7 = 42."));
const out = await deleteSession({ body: { refresh_token: session.refresh_token } });
console.log(out.response?.status);
