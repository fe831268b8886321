// A page around the recipe: what it shows, and what a user can do in it.
import { useEffect, useState } from "react";
import { createRoot } from "react-dom/client";
import { history, session, useKeptChat } from "./use-chat.jsx";

function Chat({ id, messages: first }) {
  const { messages, status, error, sendMessage, stop, ...chat } = useKeptChat(id, first);
  useEffect(() => void (window.chat = { send: (text) => void sendMessage({ text }), stop, ...chat }));
  return (
    <main data-status={status}>
      {messages.map((message) => (
        <article key={message.id} data-role={message.role}>
          {message.parts.map((part, place) => {
            if (part.type === "text") return <span key={place}>{part.text}</span>;
            if (part.type.startsWith("tool-")) return <code key={place}>{part.output}</code>;
          })}
        </article>
      ))}
      {error && <aside>{error.message}</aside>}
    </main>
  );
}

function Page() {
  const [messages, setMessages] = useState();
  const id = new URLSearchParams(location.search).get("chat");
  useEffect(() => void history(id).then(setMessages), [id]);
  return messages ? <Chat id={id} messages={messages} /> : <p>…</p>;
}

window.session = session;
createRoot(document.body.appendChild(document.createElement("div"))).render(<Page />);
