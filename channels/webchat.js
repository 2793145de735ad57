const MAX_TEXT = 100000;
const ACCEPT_MS = 10000;
const SETTLE_MS = 700;
const CALM_MS = 5000;
const RETRY_MS = [300, 1000, 2000, 4000, 8000, 15000];

const at = (id) => document.getElementById(id);
const [scroller, log, typing, empty, down] = ["scroller", "log", "typing", "empty", "down"].map(at);
const [text, problem, state, back] = ["text", "problem", "state", "back"].map(at);
const botName = document.title;

// ------------------------------------------------------------------ what outlives a reload

const memory = new Map();
const store = {
  get(key) { try { return localStorage.getItem(key); } catch { return memory.get(key) ?? null; } },
  set(key, value) { try { localStorage.setItem(key, value); } catch { memory.set(key, value); } },
  remove(key) { try { localStorage.removeItem(key); } catch { memory.delete(key); } },
  keys() { try { return Object.keys(localStorage); } catch { return [...memory.keys()]; } },
};

// crypto.randomUUID exists only on https and loopback.
const newId = () => [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, "0")).join("");

let chat = store.get("roost.chat");
if (!/^[A-Za-z0-9_-]{8,64}$/.test(chat ?? "")) store.set("roost.chat", (chat = newId()));

// One entry a message, so that two tabs never overwrite each other's.
const unsentKey = (id) => `roost.unsent.${chat}.${id}`;
const unsent = () => store.keys()
  .filter((key) => key.startsWith(unsentKey("")))
  .map((key) => JSON.parse(store.get(key)))
  .sort((one, other) => one.at - other.at);

// ------------------------------------------------------------------ the list

const shown = new Map();
let pinned = true;

const nearEnd = () => scroller.scrollHeight - scroller.scrollTop - scroller.clientHeight < 60;
const toEnd = () => { scroller.scrollTop = scroller.scrollHeight; };

scroller.addEventListener("scroll", () => {
  pinned = nearEnd();
  if (pinned) down.hidden = true;
});
new ResizeObserver(() => pinned && toEnd()).observe(scroller);

function keepPlace(change, isNew) {
  change();
  empty.hidden = log.childElementCount > 0;
  back.hidden = !store.get("roost.previous");
  if (pinned) toEnd();
  else if (isNew) down.hidden = false;
}

function make(tag, className, content = "") {
  const element = document.createElement(tag);
  element.className = className;
  element.textContent = content;
  return element;
}

function clock(when) {
  const hours = { hour: "numeric", minute: "2-digit" };
  if (when.toDateString() === new Date().toDateString()) return when.toLocaleTimeString([], hours);
  return when.toLocaleString([], { day: "numeric", month: "short", ...hours });
}

function build(said) {
  const element = make("article", `message ${said.bot ? "bot" : "own"}`);
  const when = new Date(said.at ? said.at * 1000 : Date.now());
  const time = make("time", "", clock(when));
  time.dateTime = when.toISOString();
  time.title = when.toLocaleString();
  const meta = make("div", "meta");
  meta.append(make("span", said.bot ? "author" : "unseen", said.bot ? said.author || botName : "You"), time);
  element.append(meta, make("div", "body"));
  return element;
}

function upsert(said) {
  let element = shown.get(said.id);
  if (!element) {
    element = build(said);
    element.dataset.id = said.id;
    shown.set(said.id, element);
    log.append(element);
  }
  const body = element.querySelector(".body");
  if (said.html !== undefined) patch(body, parse(said.html));
  else if (body.textContent !== said.text) body.textContent = said.text;
  if (said.buttons) choices(element, said.buttons);
  return element;
}

function drop(id) {
  shown.get(id)?.remove();
  shown.delete(id);
}

function mark(id, className, words) {
  const element = shown.get(id);
  if (!element) return;
  element.classList.remove("unsent", "refused");
  element.querySelector(".note")?.remove();
  if (!className) return;
  element.classList.add(className);
  element.append(make("p", "note", words));
}

function parse(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  const fragment = template.content;
  fragment.querySelectorAll("pre").forEach(wrapCode);
  return fragment;
}

function wrapCode(pre) {
  const around = make("div", "code");
  const bar = make("div", "bar");
  const copy = make("button", "copy", "Copy");
  copy.type = "button";
  const language = pre.querySelector("code")?.className.replace("language-", "") ?? "";
  bar.append(make("span", "", language), copy);
  pre.replaceWith(around);
  around.append(bar, pre);
  // A block that scrolls sideways must be reachable without a mouse.
  pre.tabIndex = 0;
}

// Change only what differs: a growing answer neither flickers nor loses a selection or a scrolled code block.
function patch(old, fresh) {
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  after.forEach((node, index) => {
    const was = before[index];
    if (!was) old.append(node);
    else if (was.isEqualNode(node)) return;
    else if (was.nodeType === Node.TEXT_NODE && node.nodeType === Node.TEXT_NODE) was.data = node.data;
    else if (was.nodeType === Node.ELEMENT_NODE && was.cloneNode(false).isEqualNode(node.cloneNode(false))) patch(was, node);
    else was.replaceWith(node);
  });
  before.slice(after.length).forEach((node) => node.remove());
}

function choices(element, buttons) {
  element.querySelector(".choices")?.remove();
  if (!buttons.length) return;
  const row = make("div", "choices");
  row.setAttribute("role", "group");
  row.setAttribute("aria-label", "Choices");
  for (const button of buttons) row.append(choice(button));
  element.append(row);
}

function choice(button) {
  const element = make(button.url ? "a" : "button", "", button.text);
  if (button.url) Object.assign(element, { href: button.url, target: "_blank", rel: "noopener noreferrer" });
  else if (button.value === undefined) element.disabled = true;
  else element.addEventListener("click", () => say(button.value, "press"));
  return element;
}

log.addEventListener("click", async (event) => {
  const button = event.target.closest(".copy");
  if (!button) return;
  const copied = await copyFrom(button.closest(".code").querySelector("pre"));
  button.textContent = copied ? "Copied" : "Selected";
  setTimeout(() => { button.textContent = "Copy"; }, 1500);
});

async function copyFrom(element) {
  try {
    await navigator.clipboard.writeText(element.textContent.replace(/\n$/, ""));
    return true;
  } catch {
    // Plain http on another machine has no clipboard: leave the text selected instead.
    getSelection().selectAllChildren(element);
    return false;
  }
}

// ------------------------------------------------------------------ what the server says

let settling = 0;
let typingEnds = 0;

// Screen readers wait for aria-busy to end, so they read a growing answer once.
function settle() {
  log.setAttribute("aria-busy", "true");
  clearTimeout(settling);
  settling = setTimeout(() => log.removeAttribute("aria-busy"), SETTLE_MS);
}

function showTyping(seconds) {
  clearTimeout(typingEnds);
  keepPlace(() => { typing.hidden = !seconds; });
  if (seconds) typingEnds = setTimeout(() => showTyping(0), seconds * 1000);
}

function reconcile(messages) {
  let cursor = log.firstElementChild;
  for (const said of messages) {
    const element = upsert(said);
    accepted(said.id);
    if (element === cursor) cursor = cursor.nextElementSibling;
    else log.insertBefore(element, cursor);
  }
  const kept = new Set(messages.map((said) => said.id));
  for (const [id, element] of [...shown]) {
    if (!kept.has(id) && !element.matches(".unsent, .refused")) drop(id);
  }
}

function accepted(id) {
  clearTimeout(waiting.get(id));
  waiting.delete(id);
  store.remove(unsentKey(id));
  mark(id, "");
}

const frames = {
  history(frame) {
    keepPlace(() => reconcile(frame.messages));
    connected();
  },
  message(frame) {
    if (frame.bot) showTyping(0);
    keepPlace(() => upsert(frame), true);
    if (frame.bot && document.hidden) document.title = `• ${botName}`;
  },
  edit(frame) {
    showTyping(0);
    settle();
    keepPlace(() => upsert({ bot: true, ...frame }), true);
  },
  delete: (frame) => keepPlace(() => drop(frame.id)),
  typing: (frame) => showTyping(frame.seconds),
  accepted: (frame) => accepted(frame.id),
  error(frame) {
    if (!frame.id) return;
    accepted(frame.id);
    mark(frame.id, "refused", `Not sent. ${frame.text}`);
  },
};

// ------------------------------------------------------------------ the connection

let socket = null;
let tries = 0;
let retry = 0;
let calm = 0;
const waiting = new Map();

function connect() {
  clearTimeout(retry);
  const mine = new WebSocket(new URL("ws", location.href.replace(/^http/, "ws")));
  let opened = false;
  socket = mine;
  mine.addEventListener("open", () => {
    opened = true;
    mine.send(JSON.stringify({ type: "hello", chat }));
  });
  mine.addEventListener("message", (event) => {
    if (mine !== socket) return;
    const frame = JSON.parse(event.data);
    frames[frame.type]?.(frame);
  });
  mine.addEventListener("close", () => mine === socket && lost(opened));
}

function connected() {
  calm = setTimeout(() => { tries = 0; }, CALM_MS);
  document.body.classList.remove("offline", "quiet");
  state.textContent = "Connected";
  keepPlace(() => unsent().forEach(deliver));
}

function lost(opened) {
  socket = null;
  clearTimeout(calm);
  forgetWaiting();
  showTyping(0);
  document.body.classList.add("offline");
  document.body.classList.toggle("quiet", tries === 0);
  state.textContent = tries === 0 ? "Connecting" : "Not connected, trying again";
  const pause = RETRY_MS[Math.min(tries++, RETRY_MS.length - 1)];
  clearTimeout(retry);
  retry = setTimeout(connect, pause * (0.8 + Math.random() * 0.4));
  if (!opened) checkLogin();
}

function forgetWaiting() {
  waiting.forEach((timer) => clearTimeout(timer));
  waiting.clear();
}

function reconnect() {
  const old = socket;
  socket = null;
  old?.close();
  clearTimeout(calm);
  forgetWaiting();
  connect();
}

// A refused WebSocket does not say why. When the session is over, loading the page shows the login.
async function checkLogin() {
  try {
    const answer = await fetch("chat.js", { method: "HEAD", cache: "no-store" });
    if (answer.status === 401) location.reload();
  } catch {
    // The server is away; the next try is on its way.
  }
}

addEventListener("online", reconnect);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) return;
  document.title = botName;
  if (document.body.classList.contains("offline")) reconnect();
});

// ------------------------------------------------------------------ what the person says

function deliver(said) {
  if (!shown.has(said.id)) upsert({ id: said.id, bot: false, text: said.text, at: said.at / 1000 });
  mark(said.id, "unsent", "Not sent yet");
  if (socket?.readyState !== WebSocket.OPEN || document.body.classList.contains("offline")) return;
  const key = said.type === "press" ? "value" : "text";
  socket.send(JSON.stringify({ type: said.type, id: said.id, [key]: said.text }));
  clearTimeout(waiting.get(said.id));
  waiting.set(said.id, setTimeout(reconnect, ACCEPT_MS));
}

function say(words, type = "say") {
  const said = { id: newId(), type, text: words, at: Date.now() };
  store.set(unsentKey(said.id), JSON.stringify(said));
  pinned = true;
  keepPlace(() => deliver(said));
}

function grow() {
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + text.offsetHeight - text.clientHeight}px`;
}

text.addEventListener("input", () => {
  problem.textContent = "";
  grow();
});
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing || event.keyCode === 229) return;
  event.preventDefault();
  at("composer").requestSubmit();
});
at("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  // Half a character, from a broken paste, has no UTF-8.
  const words = text.value.replace(/\p{Surrogate}/gu, "\uFFFD");
  if (!words.trim()) return;
  if ([...words].length > MAX_TEXT) {
    problem.textContent = `This message is too long: at most ${MAX_TEXT.toLocaleString()} characters fit.`;
    return;
  }
  text.value = "";
  grow();
  say(words);
  text.focus();
});
down.addEventListener("click", () => {
  down.hidden = true;
  toEnd();
});

function open(id) {
  store.set("roost.chat", (chat = id));
  shown.clear();
  log.replaceChildren();
  pinned = true;
  showTyping(0);
  text.focus();
  reconnect();
}
at("fresh").addEventListener("click", () => {
  if (log.childElementCount) {
    store.set("roost.previous", chat);
    open(newId());
  }
});
back.addEventListener("click", () => {
  const previous = store.get("roost.previous");
  store.remove("roost.previous");
  open(previous);
});

if (matchMedia("(pointer: fine)").matches) text.focus();
connect();
