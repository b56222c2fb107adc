// What an application does with the package openai for JavaScript; prints what it got as one JSON object.
// OPENAI_BASE_URL and OPENAI_API_KEY lead to the gateway; SMALL_KEY is a key with limits. The argument names the package.
const { default: OpenAI, toFile } = await import(process.argv[2]);

const client = new OpenAI({ maxRetries: 0 });
const user = (content) => [{ role: "user", content }];
const gsi = { n: 2 }; // what is not OpenAI's goes beside the other fields
const said = {};

const answer = await client.chat.completions.create({ model: "gsi", messages: user("2 + 3 is |5."), gsi });
said.answer = [answer.choices[0].message.content, answer.choices[0].finish_reason, answer.usage.completion_tokens];
const messages = [...user("2 + 3?"), answer.choices[0].message, ...user("repeat")];
said.again = (await client.chat.completions.create({ model: "gsi", messages, gsi })).choices[0].message.content;

const chunks = [];
for await (const chunk of await client.chat.completions.create({
  model: "gsi",
  messages: user("One. |~Two. |~Three."),
  stream: true,
  stream_options: { include_usage: true },
  gsi,
})) {
  chunks.push([performance.now() / 1000, chunk]);
}
const texts = chunks.filter(([, chunk]) => chunk.choices[0]?.delta.content);
said.texts = texts.map(([, chunk]) => chunk.choices[0].delta.content);
said.seconds = texts.at(-1)[0] - texts[0][0];
said.usage = chunks.at(-1)[1].usage.completion_tokens;
const helper = client.chat.completions.stream({ model: "gsi", messages: user("One. |Two."), gsi });
said.helper = await helper.finalContent();

const stopping = await client.chat.completions.create({ model: "gsi", messages: user("~One. |".repeat(30)), stream: true });
let num = 0;
for await (const chunk of stopping) {
  if (chunk.choices[0]?.delta.content && ++num === 2) break; // the client closes the connection
}
said.broken = num;

const events = client.responses.stream({ model: "gsi", input: "One. |Two.", gsi });
said.events = [];
for await (const event of events) said.events.push(event.type);
said.response = (await events.finalResponse()).output_text;
let background = await client.responses.create({ model: "gsi", input: "One. |~Two.", background: true, gsi });
said.begun = background.status;
while (["queued", "in_progress"].includes(background.status)) background = await client.responses.retrieve(background.id);
said.background = [background.status, background.output_text];

const line = { custom_id: "a", method: "POST", url: "/v1/chat/completions", body: { model: "gsi", messages: user("5") } };
const source = `${JSON.stringify(line)}\n`;
const file = await client.files.create({ file: await toFile(Buffer.from(source), "lines.jsonl"), purpose: "batch" });
let batch = await client.batches.create({
  input_file_id: file.id,
  endpoint: "/v1/chat/completions",
  completion_window: "24h",
});
while (!["completed", "failed", "expired", "cancelled"].includes(batch.status)) batch = await client.batches.retrieve(batch.id);
const output = await (await client.files.content(batch.output_file_id)).text();
said.batch = [batch.status, JSON.parse(output).response.body.choices[0].message.content];
said.content = (await (await client.files.content(file.id)).text()) === source;
said.listed = [];
for await (const each of client.files.list({ limit: 1, purpose: "batch" })) said.listed.push(each.id);
said.listed = said.listed[0] === file.id;
said.models = [];
for await (const model of client.models.list()) said.models.push(model.id);
said.model = (await client.models.retrieve("gsi:no-rejection")).id;

async function errorOf(call) {
  try {
    await call();
  } catch (error) {
    return [error.constructor.name, error.status ?? null, error.code ?? null, error.param ?? null, Number(error.headers?.get("retry-after")) > 0];
  }
  return [];
}

const small = new OpenAI({ apiKey: process.env.SMALL_KEY, maxRetries: 0 });
const draft = { model: "gsi:draft", messages: user("5") };
await small.chat.completions.create(draft);
const tool = { type: "function", function: { name: "add", parameters: { type: "object", properties: {} } } };
said.errors = {
  key: await errorOf(() => new OpenAI({ apiKey: "wrong" }).models.list()),
  model: await errorOf(() => client.chat.completions.create({ ...draft, model: "gpt" })),
  tools: await errorOf(() => client.chat.completions.create({ ...draft, tools: [tool] })),
  rate: await errorOf(() => small.chat.completions.create(draft)),
  stream: await errorOf(async () => {
    for await (const _ of await client.chat.completions.create({ model: "gsi", messages: user("unreadable"), stream: true }));
  }),
};
console.log(JSON.stringify(said));
