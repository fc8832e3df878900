// The server's side of the page: which models there are, and answers as they are written.

export class Refused extends Error {
  /** `status` is the answer's, 0 where the server was not reached. */
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Every served model: {name, adapters}. */
export async function models(key) {
  const { models } = await (await send("api/tags", undefined, key)).json();
  const own = models.filter((model) => !model.details.parent_model);
  return own.map((model) => ({
    name: model.name,
    adapters: models
      .filter((other) => other.details.parent_model === model.name.split(":")[0])
      .map((other) => other.name),
  }));
}

/** Whether a model has a chat template; one without continues a text. */
export async function talks(model, key) {
  const page = await (await send("api/show", { model }, key)).json();
  return page.template !== "";
}

/**
 * The lines of an answer: {text, done, ...}. The last one has done_reason and the times in nanoseconds.
 * Leaving the loop, or the signal, ends the answer on the server.
 */
export async function* answer({ model, messages, options, chat, key, signal }) {
  const common = { model, options, stream: true };
  const prompt = messages.map((message) => message.content).join("");
  const response = chat
    ? await send("api/chat", { ...common, messages }, key, signal)
    : await send("api/generate", { ...common, prompt, raw: true }, key, signal);
  for await (const line of lines(response.body)) {
    const said = JSON.parse(line);
    if (said.error) throw new Refused(response.status, said.error);
    yield { ...said, text: chat ? said.message.content : said.response };
  }
}

async function send(path, body, key, signal) {
  const headers = { "content-type": "application/json" };
  if (key) headers.authorization = `Bearer ${key}`;
  const request = { method: body ? "POST" : "GET", headers, signal };
  if (body) request.body = JSON.stringify(body);
  const response = await reach(path, request);
  if (response.ok) return response;
  throw new Refused(response.status, await reason(response));
}

async function reach(path, request) {
  try {
    return await fetch(path, request);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The server cannot be reached.");
  }
}

async function reason(response) {
  const text = await response.text();
  try {
    const { error } = JSON.parse(text);
    return error.message ?? error;
  } catch {
    return text || response.statusText;
  }
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  try {
    for (;;) {
      const { value, done } = await next(reader);
      if (done) break;
      const parts = (rest + value).split("\n");
      rest = parts.pop();
      yield* parts.filter((part) => part !== "");
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

async function next(reader) {
  try {
    return await reader.read();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused(0, "The connection broke before the answer was complete.");
  }
}
