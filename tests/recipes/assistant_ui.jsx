// A page around the recipe: what it shows, and what a user can do in it.
import { useEffect } from "react";
import { createRoot } from "react-dom/client";
import { AssistantRuntimeProvider, MessagePrimitive, ThreadPrimitive } from "@assistant-ui/react";
import { session, useKeptRuntime } from "./assistant-ui.jsx";

const Message = () => (
  <article>
    <MessagePrimitive.Parts
      components={{
        Text: ({ text }) => <span>{text}</span>,
        tools: { Fallback: ({ result }) => <code>{result}</code> },
      }}
    />
  </article>
);

function Page() {
  const runtime = useKeptRuntime(new URLSearchParams(location.search).get("chat"));
  useEffect(() => {
    const { thread } = runtime;
    const chat = {
      send: (text) => thread.append(text),
      stop: () => thread.cancelRun(),
      regenerate: () => thread.getMessageByIndex(thread.getState().messages.length - 1).reload(),
      isRunning: () => thread.getState().isRunning,
      isLoading: () => thread.getState().isLoading,
    };
    // No user is quicker than the page, which only then says that it loads.
    setTimeout(() => void (window.chat = chat), 100);
  }, [runtime]);
  return (
    <AssistantRuntimeProvider runtime={runtime}>
      <ThreadPrimitive.Root>
        <ThreadPrimitive.Messages components={{ Message }} />
      </ThreadPrimitive.Root>
    </AssistantRuntimeProvider>
  );
}

window.session = session;
createRoot(document.body.appendChild(document.createElement("div"))).render(<Page />);
