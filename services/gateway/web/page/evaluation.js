/** The view of `#/evaluations/NAME`: what was asked for, what each method reached, and the plots of its folder. */

import { html } from "./vendor/htm/standalone.module.js";
import { get, getImage } from "./api.js";
import { Empty, ErrorBox, Loading, Table, formatNumber, useLoaded } from "./ui.js";

/** The view. */
export default function Evaluation({ route }) {
  const name = route.params.name;
  const found = useLoaded((signal) => get(pathOf(name), {}, signal), [name]);
  const value = found.value?.name === name ? found.value : null;
  return html`<div class="evaluations">
    <p><a href="#/evaluations">All evaluations</a></p>
    <h1>${name}</h1>
    <${ErrorBox} error=${found.error} onRetry=${found.reload} />
    ${!value && !found.error && html`<${Loading} />`}
    ${value && html`<${Settings} found=${value} /><${Figures} found=${value} /><${Comparisons} found=${value} /><${Failures} found=${value} /><${Plots} name=${name} images=${value.images} />`}
  </div>`;
}

const pathOf = (name) => `/gsi/v1/evaluations/${encodeURIComponent(name)}`;

/** A number of a report, in which one that JSON has not is a text such as "Infinity"; null if it is none or not finite. */
function toNumber(value) {
  const number = value === null || value === undefined ? Number.NaN : Number(value);
  return Number.isFinite(number) ? number : null;
}

const percent = (value, sign = "") => {
  const number = toNumber(value);
  return number === null ? "–" : `${sign && number > 0 ? sign : ""}${(100 * number).toFixed(1).replace("-", "\u2212")}`;
};

/** An estimate in percent with its interval: `61.0 [55.2, 66.8]`. */
function formatEstimate(estimate, sign = "") {
  if (!estimate || toNumber(estimate.value) === null) return "–";
  if (toNumber(estimate.low) === null || toNumber(estimate.high) === null) return percent(estimate.value, sign);
  return `${percent(estimate.value, sign)} [${percent(estimate.low, sign)}, ${percent(estimate.high, sign)}]`;
}

function Settings({ found }) {
  const { evaluation, plan, models } = found;
  const params = Object.entries(plan?.params ?? {}).map(([name, value]) => `${name} ${JSON.stringify(value)}`);
  const facts = [
    ["Data set", evaluation?.dataset ?? plan?.dataset],
    ["Problems", evaluation && `${formatNumber(evaluation.problems)}, each with ${evaluation.seeds} ${evaluation.seeds === 1 ? "seed" : "seeds"}`],
    ["Methods", plan?.methods?.join(", ")],
    ["n", plan?.ns?.join(", ")],
    ["Parameters of all jobs", params.join(", ")],
    ["System message", evaluation?.identity?.template ?? plan?.system],
    ["Date", evaluation?.date],
    ["Machine", evaluation && `${evaluation.machine}; ${evaluation.concurrency} jobs at once`],
    ...Object.entries(models).map(([role, all]) => [`Model: ${role}`, all.map(describeModel).join("; ")]),
    ["Code", evaluation?.identity?.code],
  ].filter(([, text]) => text);
  return html`<dl class="settings card">${facts.map(([label, text]) => html`<div key=${label}><dt>${label}</dt><dd>${text}</dd></div>`)}</dl>`;
}

function describeModel(model) {
  const engine = [model.engine, model.engine_version].filter(Boolean).join(" ");
  return [model.model?.split("/").slice(-2).join("/"), engine, model.dtype].filter(Boolean).join(", ");
}

const nameOf = (row) => html`<span class="method">${row.label}</span>`;
const keyOf = (row) => `${row.label}/${row.n}`;

function Figures({ found }) {
  if (!found.rows.length) return html`<${Empty} title="No report yet">It is written when the evaluation ends, or is stopped.<//>`;
  const columns = [
    { key: "label", label: "Method", render: nameOf },
    { key: "n", label: "n", isNumber: true },
    { key: "accuracy", label: "Accuracy, %", isNumber: true, render: (row) => (row.answered ? formatEstimate(row.accuracy) : "failed") },
    { key: "strict", label: "Strict, %", isNumber: true, render: (row) => (row.answered ? percent(row.strict_accuracy?.value) : "–") },
    { key: "accepted", label: "Accepted, %", isNumber: true, render: (row) => formatEstimate(row.acceptance_rate) },
    { key: "steps", label: "Steps", isNumber: true, render: (row) => formatNumber(toNumber(row.steps_per_problem), 1) },
    { key: "step", label: "s / step", isNumber: true, render: (row) => formatNumber(toNumber(row.timings?.seconds_per_step), 2) },
    { key: "problem", label: "s / problem", isNumber: true, render: (row) => formatNumber(toNumber(row.timings?.seconds_per_problem), 2) },
    { key: "tokens", label: "Tokens, draft + target", isNumber: true, render: (row) => formatTokens(row.tokens_per_problem) },
    { key: "failures", label: "Failed", isNumber: true, render: (row) => (row.failures ? `${row.failures} of ${row.jobs}` : "–") },
  ];
  return html`<section aria-labelledby="figures">
    <h2 id="figures">Accuracy, time and tokens</h2>
    <${Intervals} rows=${found.rows.filter((row) => row.answered)} />
    <${Table} caption="Accuracy, time and tokens of each method" columns=${columns} rows=${found.rows} rowKey=${keyOf} />
    <p class="soft small">Brackets are 95 % intervals over problems. Steps, seconds and tokens are means of a problem; tokens are those written, discarded candidates included.</p>
  </section>`;
}

function formatTokens(tokens) {
  return `${formatNumber(toNumber(tokens?.draft_written))} + ${formatNumber(toNumber(tokens?.target_written))}`;
}

/** Accuracies as points with their intervals, on one axis from 0 to 100 %. The table below has the numbers. */
function Intervals({ rows }) {
  if (!rows.length) return null;
  const width = 100;
  const place = (value) => Math.min(1, Math.max(0, value)) * width;
  return html`<div class="intervals card" role="img" aria-label=${`Accuracy with 95 % intervals: ${rows.map((row) => `${row.label}, n = ${row.n}: ${formatEstimate(row.accuracy)} %`).join("; ")}`}>
    ${rows.map((row) => {
      const [value, low, high] = [row.accuracy.value, row.accuracy.low, row.accuracy.high].map(toNumber);
      return html`<div class="interval-row" key=${keyOf(row)} aria-hidden="true">
        <span class="interval-name">${row.label}, n = ${row.n}</span>
        <svg viewBox="0 0 100 8" preserveAspectRatio="none">
          ${[0, 25, 50, 75, 100].map((each) => html`<line key=${each} class="interval-grid" x1=${each} x2=${each} y1="0" y2="8" vector-effect="non-scaling-stroke" />`)}
          ${low !== null && high !== null && html`<line class="interval-line" x1=${place(low)} x2=${place(high)} y1="4" y2="4" vector-effect="non-scaling-stroke" />`}
          ${value !== null && html`<line class="interval-point" x1=${place(value)} x2=${place(value)} y1="1" y2="7" vector-effect="non-scaling-stroke" />`}
        </svg>
      </div>`;
    })}
    <div class="interval-row interval-axis" aria-hidden="true"><span></span><span class="interval-ticks">${[0, 25, 50, 75, 100].map((each) => html`<span key=${each}>${each} %</span>`)}</span></div>
  </div>`;
}

function Comparisons({ found }) {
  const pairs = found.comparisons.filter((pair) => pair.n === pair.other_n);
  if (!pairs.length) return null;
  const columns = [
    { key: "label", label: "Method", render: nameOf },
    { key: "other", label: "minus", render: (pair) => html`<span class="method">${pair.other_label}</span>` },
    { key: "n", label: "n", isNumber: true },
    { key: "difference", label: "Difference, points", isNumber: true, render: (pair) => formatEstimate(pair.difference, "+") },
    { key: "problems", label: "Problems", isNumber: true, render: (pair) => formatNumber(pair.problems) },
  ];
  return html`<section aria-labelledby="pairs">
    <h2 id="pairs">Paired differences</h2>
    <${Table} caption="Paired differences of accuracy" columns=${columns} rows=${pairs} rowKey=${(pair) => `${keyOf(pair)}/${pair.other_label}`} />
  </section>`;
}

function Failures({ found }) {
  const { number, first } = found.failures;
  if (!number) return null;
  const columns = [
    { key: "label", label: "Method", render: nameOf },
    { key: "n", label: "n", isNumber: true },
    { key: "problem", label: "Problem" },
    { key: "state", label: "State" },
    { key: "error", label: "Error" },
  ];
  return html`<section aria-labelledby="failures">
    <h2 id="failures">Failures</h2>
    <p class="soft">${formatNumber(number)} ${number === 1 ? "job" : "jobs"} did not succeed: no answers, so neither right nor wrong.</p>
    <${Table} caption="Failures" columns=${columns} rows=${first} rowKey=${(each) => `${keyOf(each)}/${each.seed}/${each.problem}`} />
  </section>`;
}

function Plots({ name, images }) {
  if (!images.length) return null;
  return html`<section aria-labelledby="plots">
    <h2 id="plots">Plots</h2>
    <div class="plots">${images.map((image) => html`<${Plot} key=${image} name=${name} image=${image} />`)}</div>
  </section>`;
}

function Plot({ name, image }) {
  const found = useLoaded((signal) => getImage(`${pathOf(name)}/images/${encodeURIComponent(image)}`, signal), [name, image]);
  const words = image.replace(/\.png$/, "").replaceAll("-", " ").replaceAll("_", " ");
  const title = words[0].toUpperCase() + words.slice(1);
  return html`<figure class="card plot">
    <${ErrorBox} error=${found.error} onRetry=${found.reload} />
    ${found.value ? html`<img src=${found.value} alt=${`Plot: ${words}`} />` : !found.error && html`<${Loading} />`}
    <figcaption>${title}</figcaption>
  </figure>`;
}
