// Shows the page's parts to who is signed in, or is not.
import { hideEntry, showAccount, showEntry } from "./account.mjs";
import { openChat, showChats } from "./chats.mjs";
import { $, press, say } from "./dom.mjs";
import { client } from "./wire.mjs";
import { language, setLanguage } from "./words.mjs";

const { dataset } = document.body;
const tabs = document.querySelectorAll("[data-shows]");

/** Show one part of the page, where there is room for no more. */
function view(name) {
	dataset.view = name;
	for (const each of tabs) each.ariaPressed = each.dataset.shows === name;
	if (name === "wire") $("#wire").open = true;
}

function signedIn() {
	hideEntry();
	dataset.state = "in";
	view("chats");
	showAccount().catch(() => {}); // The client says so itself if the session is over.
	showChats();
	openChat(location.hash.slice(1));
	$("#message").focus();
}

function signedOut() {
	if (dataset.state === "in") say("You are signed out.");
	$("dialog").close();
	history.replaceState(null, "", location.pathname);
	openChat("");
	for (const each of ["#profile", "#chat-list"]) $(each).replaceChildren();
	$("#message").value = "";
	dataset.state = "out";
	view("account");
	showEntry();
}

function use(chosen) {
	setLanguage(chosen);
	client.language = chosen;
	$("#language").textContent = chosen === "zh" ? "English" : "中文";
	$("#language").lang = chosen === "zh" ? "en" : "zh-CN";
}

client.addEventListener("signedin", signedIn);
client.addEventListener("signedout", signedOut);
press($("#language"), () => use(language === "zh" ? "en" : "zh"));
press($("#sign-out"), () => client.signOut());
for (const each of tabs) press(each, () => view(each.dataset.shows));

use(language);
if (client.user) signedIn();
else signedOut();
