// What the page shows: the list of conversations, the messages of one, notices.

import { render } from "./markup.js";
import { titleOf } from "./store.js";

const NEAR_END = 60; // pixels: a reader this close to the end follows the answer

export const $ = (selector) => document.querySelector(selector);

/** An element by name, with properties and children. */
export function make(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

export function button(iconName, label, onclick) {
  const made = make("button", { type: "button", className: "icon", title: label, onclick }, icon(iconName));
  made.setAttribute("aria-label", label);
  return made;
}

/** A line that says what happened, with what can be done about it. */
export function notice(text, actions = []) {
  const line = make("div", { className: "notice" }, make("span", {}, text));
  for (const [label, act] of actions) {
    line.append(make("button", { type: "button", onclick: () => (line.remove(), act()) }, label));
  }
  line.append(make("button", { type: "button", onclick: () => line.remove() }, "Dismiss"));
  $("#notices").replaceChildren(line);
}

/** The list; `acts` are choose, rename and remove, each of a conversation. */
export function drawList(store, isRunning, acts) {
  const items = store.conversations.map((each) => item(each, each === store.current, isRunning(each), acts));
  $("#conversations").replaceChildren(...items);
  $("#title").textContent = titleOf(store.current);
  document.title = `${titleOf(store.current)} · Hearth`;
}

function item(conversation, current, running, acts) {
  const title = titleOf(conversation);
  const open = make("button", { type: "button", className: "title", title }, title);
  open.onclick = () => acts.choose(conversation);
  const line = make("li", {}, open);
  if (current) open.setAttribute("aria-current", "true");
  line.classList.toggle("running", running);
  line.append(
    button("edit", `Rename “${title}”`, () => rename(line, conversation, acts)),
    button("trash", `Delete “${title}”`, () => acts.remove(conversation)),
  );
  open.onkeydown = (event) => {
    if (event.key === "F2") rename(line, conversation, acts);
    if (event.key === "Delete") acts.remove(conversation);
  };
  return line;
}

function rename(line, conversation, acts) {
  const input = make("input", { value: titleOf(conversation), maxLength: 200 });
  input.setAttribute("aria-label", "Name of the conversation");
  let done = false;
  const end = (title) => {
    if (done) return;
    done = true;
    acts.rename(conversation, title);
  };
  input.onkeydown = (event) => {
    event.stopPropagation();
    if (event.key === "Enter") end(input.value.trim());
    if (event.key === "Escape") end(conversation.title);
  };
  input.onblur = () => end(input.value.trim());
  line.replaceChildren(input);
  input.focus();
  input.select();
}

/** The messages of one conversation, drawn again where they change. */
export class Messages {
  constructor(acts) {
    this.acts = acts;
    this.elements = new Map();
    this.changed = new Set();
  }

  show(conversation) {
    this.conversation = conversation;
    this.elements.clear();
    const drawn = conversation.messages.map((message) => this.element(message));
    $("#messages").replaceChildren(...drawn);
    $("#welcome").hidden = drawn.length > 0;
    this.follow(true);
  }

  /** Draws a message with the next frame, if its conversation is the one shown. */
  change(message) {
    if (!this.elements.has(message)) return;
    if (this.changed.size === 0) requestAnimationFrame(() => this.draw());
    this.changed.add(message);
  }

  draw() {
    const follows = this.nearEnd();
    for (const message of this.changed) {
      const old = this.elements.get(message);
      if (old) old.replaceWith(this.element(message));
    }
    this.changed.clear();
    this.follow(follows);
  }

  nearEnd() {
    const { scrollTop, clientHeight, scrollHeight } = $("#scroll");
    return scrollHeight - scrollTop - clientHeight < NEAR_END;
  }

  follow(wanted) {
    if (wanted) $("#scroll").scrollTop = $("#scroll").scrollHeight;
  }

  element(message) {
    const mine = message.role === "user";
    const body = make("div", { className: "body" });
    if (mine) body.textContent = message.content;
    else body.append(render(message.content));
    const article = make("article", { className: message.role }, body);
    article.setAttribute("aria-label", mine ? "You" : "Answer");
    article.setAttribute("aria-busy", String(Boolean(message.running)));
    if (message.error) article.append(this.failure(message));
    if (!mine && !message.running) article.append(this.footer(message));
    this.elements.set(message, article);
    return article;
  }

  failure(message) {
    const line = make("div", { className: "failure", role: "alert" }, make("span", {}, message.error.text));
    for (const [label, act] of this.acts.remedies(this.conversation, message)) {
      line.append(make("button", { type: "button", onclick: act }, label));
    }
    return line;
  }

  footer(message) {
    const footer = make("footer", {}, make("span", { className: "facts" }, facts(message)));
    if (message.content) footer.prepend(button("copy", "Copy", () => this.acts.copy(message)));
    if (message === this.conversation.messages.at(-1) && !message.error) {
      footer.prepend(button("again", "Answer again", () => this.acts.again(this.conversation)));
    }
    return footer;
  }
}

/** "42 tokens, 38.1 tokens/s, first after 0.12 s". */
function facts({ stats, stopped, cut }) {
  const parts = [];
  if (stopped) parts.push("stopped");
  if (cut) parts.push("cut at the limit");
  if (stats) parts.push(`${stats.tokens} tokens`, speed(stats), `first after ${stats.first_s.toFixed(2)} s`);
  return parts.filter(Boolean).join(" · ");
}

export function speed({ tokens, seconds }) {
  return tokens > 1 && seconds > 0 ? `${(tokens / seconds).toFixed(1)} tokens/s` : "";
}
