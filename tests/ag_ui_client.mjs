// Runs `@ag-ui/client` unmodified, the version below the `node_modules` that the argument names.
//
// A job is a line of JSON on stdin, and its outcome one on stdout. In each of its turns a message
// is sent and the answer waited for; what is cut off is asked for again, as the same run; calls of
// front-end tools are answered in a run of their own. With `load` the job is a page that was just
// loaded: it holds nothing, and asks what there is by the method of that name. With `again` it then
// does as a button does that edits a message or has it answered anew.
import { createInterface } from "node:readline";
import { pathToFileURL } from "node:url";

const client = pathToFileURL(`${process.argv[2]}/@ag-ui/client/dist/index.mjs`);
const { HttpAgent } = await import(client.href);
const warnings = [];
console.warn = (...what) => warnings.push(what.join(" "));
console.error = () => {};
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

class Page extends HttpAgent {
  connect(input) {
    return this.run({ ...input, messages: [] });
  }
}

function listening(outcome, end) {
  return {
    onEvent: ({ event }) => void outcome.events.push(event.type),
    onRunFinishedEvent: ({ event }) => end(event),
    onRunErrorEvent: ({ event }) => end(event),
  };
}

async function run(agent, runId, { tools, wait }, outcome) {
  for (let tries = 0; tries < 100; tries++) {
    let ending;
    const listener = listening(outcome, (event) => void (ending = event));
    try {
      await agent.runAgent({ runId, tools }, listener);
    } catch (error) {
      outcome.errors.push({ status: error.status, message: String(error) });
      if (error.status) return;
    }
    if (ending) return void outcome.endings.push(ending);
    await sleep(wait);
  }
  throw new Error("it never ends");
}

function unanswered(messages) {
  const answered = new Set(messages.map((message) => message.toolCallId));
  const calls = messages.flatMap((message) => message.toolCalls ?? []);
  return calls.filter((call) => !answered.has(call.id));
}

async function work(job) {
  const { id, url, headers, threadId, runId, turns, answers } = job;
  const agent = new Page({ url, headers, threadId });
  const outcome = { id, events: [], errors: [], endings: [] };
  if (job.load) await agent[job.load]({ runId }, listening(outcome, (e) => outcome.endings.push(e)));
  for (const [number, content] of turns.entries()) {
    agent.messages.push({ id: `${runId}-asked-${number}`, role: "user", content });
    await run(agent, `${runId}-${number}`, job, outcome);
    const calls = unanswered(agent.messages).filter(({ function: { name } }) => answers[name]);
    for (const { id, function: { name } } of calls) {
      const answer = { id: `${runId}-${id}`, toolCallId: id, content: answers[name] };
      agent.messages.push({ role: "tool", ...answer });
    }
    if (calls.length) await run(agent, `${runId}-${number}-answered`, job, outcome);
  }
  for (const [time, { turn, content }] of (job.again ?? []).entries()) {
    const place = agent.messages.findIndex(({ id }) => id === `${runId}-asked-${turn}`);
    const kept = agent.messages.slice(0, place + 1);
    if (content) kept.splice(-1, 1, { id: `${runId}-edited-${turn}`, role: "user", content });
    agent.setMessages(kept);
    await run(agent, `${runId}-again-${time}`, job, outcome);
  }
  return { ...outcome, messages: agent.messages, warnings: warnings.splice(0) };
}

for await (const line of createInterface({ input: process.stdin })) {
  const job = JSON.parse(line);
  work(job)
    .catch((error) => ({ id: job.id, failed: String(error.stack) }))
    .then((outcome) => process.stdout.write(JSON.stringify(outcome) + "\n"));
}
