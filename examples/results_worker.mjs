// A worker in another language. The program pushes three jobs and reads the results stream as a member of a consumer
// group, so several copies of the program share the finished jobs. It needs no SDK: a job, a step and a result are
// JSON and fields in Redis, and docs/job.schema.json, docs/step.schema.json and docs/result.schema.json describe them.
// Start a system first (.venv/bin/gsi up), or set GSI_REDIS_URL. Then run: node examples/results_worker.mjs

import { connect } from "./redis.mjs";

const RESULTS = "gsi:{default}:results";
const GROUP = "example-workers";
const CONSUMER = `worker-${process.pid}`;
const PROBLEMS = [
  "On Friday Leo has 24 coins. On Saturday he loses 6 coins. On Sunday Ada brings him 2 bags of 5 coins. " +
    "On Monday he lends Sam 11 coins. How many coins does Leo have at the end?",
  "On Tuesday Eva has 8 books. On Wednesday she triples the books. On Thursday she sells 3 boxes of 4 books. " +
    "On Friday she finds 15 books. How many books does Eva have at the end?",
  "On Sunday Ben has 40 eggs. On Monday he uses 17 eggs. On Tuesday he buys 5 packs of 6 eggs. " +
    "On Wednesday he loses 4 eggs. How many eggs does Ben have at the end?",
];

const redis = connect(process.env.GSI_REDIS_URL ?? "redis://127.0.0.1:6379/0");
await redis.send("XGROUP", "CREATE", RESULTS, GROUP, "$", "MKSTREAM").catch((error) => {
  if (!error.message.startsWith("BUSYGROUP")) throw error; // another copy has made the group
});
for (const prompt of PROBLEMS) {
  const job = { v: 1, prompt, params: { n: 4, seed: 1 } };
  await redis.send("XADD", "gsi:{default}:jobs:normal", "*", "job", JSON.stringify(job)); // replies with the job's id
}
for (let finished = 0; finished < PROBLEMS.length; finished++) {
  const read = ["XREADGROUP", "GROUP", GROUP, CONSUMER, "COUNT", "1", "BLOCK", "0", "STREAMS", RESULTS, ">"];
  const [[, [[entry, words]]]] = await redis.send(...read);
  const { id, state } = fieldsOf(words);
  await show(id, state);
  await redis.send("XACK", RESULTS, GROUP, entry); // without it XAUTOCLAIM gives the result to another copy
}
redis.close();

/** Print the steps and the answer of a finished job. */
async function show(id, state) {
  const record = `gsi:{default}:job:${id}`;
  for (const [, words] of await redis.send("XRANGE", `${record}:steps`, "-", "+")) {
    const step = JSON.parse(fieldsOf(words).step);
    console.log(`${step.index + 1}  ${step.source}  ${step.outcome}  ${step.text.trim()}`);
  }
  console.log(`${id}  ${state}  answer ${await redis.send("HGET", record, "answer")}`);
}

/** Return the fields of an entry, which Redis sends as a list: name, value, name, value, … */
function fieldsOf(words) {
  return Object.fromEntries(words.flatMap((word, i) => (i % 2 ? [] : [[word, words[i + 1]]])));
}
