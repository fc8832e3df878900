// The Node packages openai, ollama and ai (Vercel's) against a server: node clients.mjs URL KEY; a line of JSON for each check.
import assert from "node:assert/strict";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, streamText, tool } from "ai";
import { Ollama } from "ollama";
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";

const [url, key] = process.argv.slice(2);
const openai = new OpenAI({ baseURL: `${url}/v1`, apiKey: key, maxRetries: 0 });
const ollama = new Ollama({ host: url, headers: { Authorization: `Bearer ${key}` } });
const provider = createOpenAICompatible({
  name: "hearth", baseURL: `${url}/v1`, apiKey: key, supportsStructuredOutputs: true,
});
const messages = [{ role: "user", content: "Once upon a time" }];
const short = { model: "tales", messages, max_tokens: 8, temperature: 0 };
const place = z.object({ place: z.enum(["Rome", "Oslo"]) });
const weather = {
  type: "function",
  function: { name: "weather", parameters: { type: "object", properties: { place: { enum: ["Rome", "Oslo"] } }, required: ["place"] } },
};

const checks = {
  async "openai: models"() {
    assert.ok((await openai.models.list()).data.some((model) => model.id === "tales"));
  },
  async "openai: a stream says what the whole answer says"() {
    const whole = (await openai.chat.completions.create(short)).choices[0].message.content;
    let said = "";
    const chunks = await openai.chat.completions.create({ ...short, stream: true, stream_options: { include_usage: true } });
    for await (const chunk of chunks) said += chunk.choices[0]?.delta?.content ?? "";
    assert.equal(said, whole);
    assert.equal(await openai.chat.completions.stream(short).finalContent(), whole);
  },
  async "openai: a prompt is scored"() {
    const fields = { model: "tales", prompt: "One day", max_tokens: 0, echo: true, logprobs: 1 };
    const { text, logprobs } = (await openai.completions.create(fields)).choices[0];
    assert.equal(text, "One day");
    assert.equal(logprobs.token_logprobs[0], null);
    assert.equal(logprobs.token_logprobs.length, logprobs.tokens.length);
  },
  async "openai: a tool must be called"() {
    const found = await openai.chat.completions.create({ model: "tales", messages, tools: [weather], tool_choice: "required", parallel_tool_calls: false });
    const calls = found.choices[0].message.tool_calls;
    assert.equal(calls.length, 1);
    place.parse(JSON.parse(calls[0].function.arguments));
  },
  async "openai: an answer of a schema is parsed"() {
    const found = await openai.chat.completions.parse({ model: "tales", messages, response_format: zodResponseFormat(place, "place") });
    place.parse(found.choices[0].message.parsed);
  },
  async "openai: a stream that is left ends"() {
    const chunks = await openai.chat.completions.create({ ...short, max_tokens: 400, stream: true });
    for await (const _ of chunks) break;
  },
  async "openai: errors are of its classes"() {
    await assert.rejects(openai.chat.completions.create({ ...short, model: "none" }), OpenAI.NotFoundError);
    await assert.rejects(openai.chat.completions.create({ ...short, temperature: 3 }), OpenAI.BadRequestError);
  },
  async "ollama: models"() {
    assert.ok((await ollama.list()).models.some((model) => model.name === "tales:latest"));
    assert.ok((await ollama.show({ model: "tales" })).capabilities.includes("completion"));
    assert.ok(Array.isArray((await ollama.ps()).models));
  },
  async "ollama: a stream says what the whole answer says"() {
    const asked = { model: "tales", messages, options: { num_predict: 8, temperature: 0 } };
    const whole = (await ollama.chat(asked)).message.content;
    let said = "";
    for await (const part of await ollama.chat({ ...asked, stream: true })) said += part.message.content;
    assert.equal(said, whole);
  },
  async "ollama: an answer of a schema"() {
    const format = z.toJSONSchema(place);
    place.parse(JSON.parse((await ollama.generate({ model: "tales", prompt: "Where?", format })).response));
  },
  async "ollama: vectors"() {
    assert.equal((await ollama.embed({ model: "words", input: ["a", "b"] })).embeddings.length, 2);
  },
  async "ollama: a stream is aborted"() {
    const parts = await ollama.chat({ model: "tales", messages, stream: true, options: { num_predict: 400 } });
    await assert.rejects(async () => {
      for await (const _ of parts) parts.abort();
    }, { name: "AbortError" });
  },
  async "ollama: an unknown model"() {
    await assert.rejects(ollama.chat({ model: "none", messages }), { status_code: 404 });
  },
  async "ai: text, whole and streamed"() {
    const asked = { model: provider("tales"), prompt: "Once upon", maxOutputTokens: 8, temperature: 0, maxRetries: 0 };
    let said = "";
    for await (const text of streamText(asked).textStream) said += text;
    assert.equal(said, (await generateText(asked)).text);
  },
  async "ai: a tool must be called, whole and streamed"() {
    const asked = { model: provider("tales"), prompt: "Once upon", maxRetries: 0, toolChoice: "required", tools: { weather: tool({ inputSchema: place }) } };
    place.parse((await generateText(asked)).toolCalls[0].input);
    place.parse((await streamText(asked).toolCalls)[0].input);
  },
  async "ai: an object of a schema"() {
    place.parse((await generateObject({ model: provider("tales"), prompt: "Where?", schema: place, maxRetries: 0 })).object);
  },
};

for (const [name, check] of Object.entries(checks)) {
  let error = null;
  await check().catch((found) => (error = String(found?.stack ?? found)));
  console.log(JSON.stringify({ name, error }));
}
