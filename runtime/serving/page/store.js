// Conversations and settings, kept in the browser's storage over reloads.

const CONVERSATIONS = "hearth.conversations";
const SETTINGS = "hearth.settings";
const KEY = "hearth.key"; // for this tab alone
const TITLE_LENGTH = 48;

export const NO_SETTINGS = Object.freeze({
  model: "", adapter: "", system: "", temperature: "", top_p: "", num_predict: "", seed: "", theme: "",
});

/** Newest first; there is always one, and one of them is current. Messages are {role, content, ...}. */
export class Store {
  constructor(onFull) {
    this.onFull = onFull;
    this.read();
  }

  read() {
    const kept = parsed(localStorage.getItem(CONVERSATIONS));
    this.conversations = Array.isArray(kept?.conversations) ? kept.conversations : [];
    this.conversations.flatMap(({ messages }) => messages).forEach(settle);
    this.current = this.find(kept?.current) ?? this.conversations[0] ?? this.add();
  }

  find(id) {
    return this.conversations.find((conversation) => conversation.id === id);
  }

  /** An empty conversation, made current; one that is empty already is taken. */
  add() {
    const empty = this.conversations.find((conversation) => conversation.messages.length === 0);
    this.current = empty ?? { id: crypto.randomUUID?.() ?? String(Math.random()), title: "", messages: [] };
    if (!empty) this.conversations.unshift(this.current);
    this.save();
    return this.current;
  }

  choose(conversation) {
    this.current = conversation;
    this.save();
  }

  /** Takes one out; `back` puts it where it was. */
  remove(conversation) {
    const index = this.conversations.indexOf(conversation);
    this.conversations.splice(index, 1);
    if (this.current === conversation) {
      this.current = this.conversations[Math.min(index, this.conversations.length - 1)] ?? this.add();
    }
    this.save();
    const back = () => {
      this.conversations.splice(index, 0, conversation);
      this.choose(conversation);
    };
    return back;
  }

  save() {
    const kept = { current: this.current.id, conversations: this.conversations };
    try {
      localStorage.setItem(CONVERSATIONS, JSON.stringify(kept));
    } catch {
      this.onFull();
    }
  }
}

/** An answer that was being written when the page was left ends there. */
function settle(message) {
  if (message.running) message.stopped = true;
  delete message.running;
}

/** Its own title, or the beginning of its first message. */
export function titleOf(conversation) {
  const first = conversation.messages[0]?.content.trim().replace(/\s+/g, " ") ?? "";
  const begin = first.length > TITLE_LENGTH ? `${first.slice(0, TITLE_LENGTH)}…` : first;
  return conversation.title || begin || "New conversation";
}

export function readSettings() {
  const kept = parsed(localStorage.getItem(SETTINGS)) ?? {};
  return { ...NO_SETTINGS, ...kept, key: sessionStorage.getItem(KEY) ?? "" };
}

export function saveSettings({ key, ...settings }) {
  try {
    localStorage.setItem(SETTINGS, JSON.stringify(settings));
    sessionStorage.setItem(KEY, key);
  } catch {
    // settings that are not kept still hold until the page is closed
  }
}

/** Options of a request; what is empty is left to the model. */
export function optionsOf(settings) {
  const names = ["temperature", "top_p", "num_predict", "seed"];
  const given = names.filter((name) => settings[name] !== "");
  return Object.fromEntries(given.map((name) => [name, Number(settings[name])]));
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}
