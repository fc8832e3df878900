// The chat page: what each control does, and how an answer is asked for and shown.

import { answer, models, talks } from "./api.js";
import { NO_SETTINGS, Store, optionsOf, readSettings, saveSettings } from "./store.js";
import { $, Messages, drawList, make, notice, speed } from "./view.js";

const SAVE_EVERY_MS = 500; // while an answer is written
const NANO = 1e-9;

const store = new Store(() => notice("The browser's storage is full: this conversation will not be kept. Delete older ones."));
const running = new Map(); // AbortController by conversation
const templates = new Map(); // whether a model talks, by its name
const messages = new Messages({ remedies, again, copy });
let settings = readSettings();
let served = [];

function draw() {
  messages.show(store.current);
  drawFrame();
}

/** All but the messages. */
function drawFrame() {
  drawList(store, (each) => running.has(each), { choose, rename, remove });
  const busy = running.has(store.current);
  $("#send").hidden = busy;
  $("#stop").hidden = !busy;
  if (!busy) $("#speed").textContent = "";
}

function choose(conversation) {
  store.choose(conversation);
  toggleMenu(false);
  draw();
  $("#prompt").focus();
}

function rename(conversation, title) {
  conversation.title = title;
  store.save();
  drawFrame();
}

function remove(conversation) {
  running.get(conversation)?.abort();
  const back = store.remove(conversation);
  notice("The conversation is deleted.", [["Undo", () => (back(), draw())]]);
  draw();
}

function send() {
  const text = $("#prompt").value.trim();
  if (!text || running.has(store.current)) return;
  $("#prompt").value = "";
  fit();
  store.current.messages.push({ role: "user", content: text });
  ask(store.current);
}

function again(conversation) {
  while (conversation.messages.at(-1)?.role === "assistant") conversation.messages.pop();
  ask(conversation);
}

/** Adds the model's answer to a conversation; others may be chosen meanwhile. */
async function ask(conversation) {
  const message = { role: "assistant", content: "", running: true };
  const controller = new AbortController();
  const asked = request(conversation, controller.signal);
  conversation.messages.push(message);
  running.set(conversation, controller);
  if (conversation === store.current) draw();
  try {
    await write(await asked, conversation, message);
  } catch (error) {
    if (controller.signal.aborted) message.stopped = true;
    else message.error = { status: error.status ?? -1, text: error.message };
  }
  delete message.running;
  running.delete(conversation);
  store.save();
  messages.change(message);
  drawFrame();
}

async function request(conversation, signal) {
  const model = settings.adapter || settings.model;
  const said = conversation.messages.filter((message) => message.content !== "");
  const history = said.map(({ role, content }) => ({ role, content }));
  if (settings.system) history.unshift({ role: "system", content: settings.system });
  if (!templates.has(model)) templates.set(model, await talks(model, settings.key));
  return { model, messages: history, options: optionsOf(settings), chat: templates.get(model), key: settings.key, signal };
}

async function write(asked, conversation, message) {
  const began = performance.now();
  let first, saved = began, pieces = 0;
  for await (const said of answer(asked)) {
    const now = performance.now();
    first ??= now;
    message.content += said.text;
    if (said.text) pieces++;
    if (said.done) finish(message, said, (first - began) / 1000);
    else if (now - saved > SAVE_EVERY_MS) store.save(saved = now);
    messages.change(message);
    if (conversation === store.current) {
      $("#speed").textContent = speed({ tokens: pieces - 1, seconds: (now - first) / 1000 });
    }
  }
}

function finish(message, said, first_s) {
  message.cut = said.done_reason === "length";
  message.stats = { tokens: said.eval_count, seconds: said.eval_duration * NANO, first_s };
}

/** What can be done about a failed answer. */
function remedies(conversation, { error }) {
  const found = [["Try again", () => again(conversation)]];
  if (error.status === 401 || error.status === 403) found.unshift(["Enter the API key", () => openSettings("key")]);
  if (error.status === 404) found.unshift(["Look for models", () => loadModels()]);
  return found;
}

async function copy(message) {
  try {
    await navigator.clipboard.writeText(message.content);
    notice("Copied.");
  } catch {
    notice("The browser does not let the page copy: select the text instead.");
  }
}

async function loadModels() {
  try {
    served = await models(settings.key);
  } catch (error) {
    const key = error.status === 401 ? [["Enter the API key", () => openSettings("key")]] : [];
    notice(error.message, [...key, ["Try again", loadModels]]);
    return;
  }
  templates.clear();
  if (!served.some(({ name }) => name === settings.model)) change({ model: served[0]?.name ?? "" });
  fill($("#model"), served.map(({ name }) => [name, name.replace(/:latest$/, "")]), settings.model);
  drawAdapters();
}

function drawAdapters() {
  const { adapters } = served.find(({ name }) => name === settings.model) ?? { adapters: [] };
  if (!adapters.includes(settings.adapter)) change({ adapter: "" });
  const named = adapters.map((name) => [name, name.split(":")[1]]);
  fill($("#options").adapter, [["", "none"], ...named], settings.adapter);
}

function fill(select, choices, value) {
  select.replaceChildren(...choices.map(([key, label]) => make("option", { value: key }, label)));
  select.value = value;
}

function change(part) {
  settings = { ...settings, ...part };
  saveSettings(settings);
  drawTheme();
}

function drawTheme() {
  document.documentElement.dataset.theme = settings.theme;
}

function drawSettings() {
  for (const control of $("#options").elements) {
    if (control.name) control.value = settings[control.name];
  }
}

function openSettings(field) {
  toggleSettings(true);
  $("#options")[field].focus();
}

function toggleSettings(open = $("#settings").hidden) {
  $("#settings").hidden = !open;
  $("#show-settings").setAttribute("aria-expanded", String(open));
}

/** The list, where the window is too small to show it always. */
function toggleMenu(open) {
  document.body.classList.toggle("menu-open", open);
  $("#menu").setAttribute("aria-expanded", String(document.body.classList.contains("menu-open")));
}

/** The message's box is as high as its text, to a limit of the style sheet. */
function fit() {
  const box = $("#prompt");
  box.style.height = "auto";
  box.style.height = `${box.scrollHeight}px`;
}

function stop() {
  running.get(store.current)?.abort();
}

/** What was written of answers is kept. */
function leave() {
  for (const controller of running.values()) controller.abort();
  store.save();
}

function step(by) {
  const { conversations } = store;
  const next = conversations[conversations.indexOf(store.current) + by];
  if (next) choose(next);
}

const ALT_KEYS = {
  n: () => choose(store.add()),
  s: () => toggleSettings(),
  ArrowUp: () => step(-1),
  ArrowDown: () => step(1),
};

function pressed(event) {
  if (event.altKey && ALT_KEYS[event.key]) {
    event.preventDefault();
    ALT_KEYS[event.key]();
  } else if (event.key === "Escape") {
    toggleMenu(false);
    stop();
  }
}

function pressedInPrompt(event) {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
}

function changed({ target }) {
  if (!target.name || !target.reportValidity()) return;
  change({ [target.name]: target.value });
  if (target.name === "key") loadModels();
}

function reset() {
  const { model, key } = settings;
  change({ ...NO_SETTINGS, model, key });
  setTimeout(drawSettings); // after the form's own reset
}

/** Another tab has written; an answer that is being written here comes first. */
function written(event) {
  if (event.key !== "hearth.conversations" || running.size > 0) return;
  store.read();
  draw();
}

$("#composer").onsubmit = (event) => (event.preventDefault(), send());
$("#stop").onclick = stop;
$("#prompt").oninput = fit;
$("#prompt").onkeydown = pressedInPrompt;
$("#new").onclick = ALT_KEYS.n;
$("#menu").onclick = () => toggleMenu();
$("#scroll").onclick = () => toggleMenu(false);
$("#hide-settings").onclick = () => toggleSettings(false);
$("#show-settings").onclick = () => toggleSettings();
$("#model").onchange = ({ target }) => (change({ model: target.value, adapter: "" }), drawAdapters());
$("#options").onchange = changed;
$("#options").onsubmit = (event) => event.preventDefault();
$("#options").onreset = reset;
addEventListener("keydown", pressed);
addEventListener("storage", written);
addEventListener("pagehide", leave);

drawTheme();
drawSettings();
draw();
loadModels();
