/** What a run asks for: a model, and the parameters that its method reads. */

import { html } from "./vendor/htm/standalone.module.js";
import { Field, describedBy } from "./ui.js";

/** The parameters that stand in the open, with the letters of the paper; their tooltips are the schema's descriptions. */
const FIRST = { n: "Candidates n", beta: "β", acceptance_threshold: "Threshold u" };
const NAMES = {
  n_target: "Candidates of the target",
  resample: "How the target writes",
  preset: "Decide as",
  temperature: "Temperature",
  max_steps: "Most steps",
  max_tokens: "Most tokens",
  seed: "Seed",
  weighting: "Weighting",
  role: "Written by",
  scope: "Choose among",
  aggregate: "Score of a response",
  beam_width: "Beam width",
  beam_expansion: "Beam expansion",
  judge_prompt: "A judge answers",
  judge_score: "Score of a step",
  judge_threshold: "Least score",
  confidence_threshold: "Least confidence of the draft",
  first_target_steps: "First steps by the target",
  particle_weights: "Weights of particles",
  resample_below: "Resample below",
  particle_choice: "Choice of particle",
  switch_threshold: "Switch to the draft at",
  n_rule: "Fewer candidates by",
  vote_warmup: "Warm-up responses",
  vote_percentile: "Percentile of confidence",
  vote_consensus: "Consensus",
  rejected_share: "Rejected share α",
};

/** Returns the method of a setup: the chosen one, or that of the model. */
export function methodOf(setup, models) {
  const preset = models.find((each) => each.id === setup.model);
  return setup.method || String(preset?.params?.method ?? "gsi").split(":")[0];
}

/**
 * Returns the body of POST /gsi/v1/jobs. Only what was typed is sent, of the parameters that the method reads; a text that is no
 * number is sent as it is, so that the gateway says what is allowed. The job keeps its candidates for its trace.
 */
export function toRequest(prompt, setup, models, catalog) {
  const method = catalog.methods.find((each) => each.name === methodOf(setup, models));
  const params = setup.method ? { method: setup.method } : {};
  for (const name of method?.parameters ?? []) {
    const text = (setup.params[name] ?? "").trim();
    if (text) params[name] = read(text, catalog.parameters[name]);
  }
  return { model: setup.model, prompt, params, keep_candidates: true };
}

function read(text, parameter) {
  const isNumber = parameter.type === "integer" || parameter.type === "number";
  return isNumber && Number.isFinite(Number(text)) ? Number(text) : text;
}

/** Returns the field that an API error names, as this form calls it: "prompt", "model", a parameter; null for none of them. */
export function fieldOf(error) {
  const name = error?.param?.replace(/^params\./, "").split(",")[0].split(".")[0];
  return name && (name in FIRST || name in NAMES || ["prompt", "model", "method"].includes(name)) ? name : null;
}

/**
 * The form of one side.
 * @param {{side: string, title: string, setup: object, models: object[], catalog: object, error: ?object, onChange: (setup) => void}} props
 */
export function Setup({ side, title, setup, models, catalog, error, onChange }) {
  const preset = models.find((each) => each.id === setup.model);
  const method = catalog.methods.find((each) => each.name === methodOf(setup, models));
  const names = method?.parameters ?? [];
  const others = names.filter((name) => !(name in FIRST));
  const wrong = fieldOf(error);
  const change = (name) => (event) => onChange({ ...setup, params: { ...setup.params, [name]: event.target.value } });
  const parameter = (name) => html`<${Parameter} key=${name} id=${`${side}-${name}`} name=${name} parameter=${catalog.parameters[name]}
    inForce=${preset?.params?.[name]} value=${setup.params[name] ?? ""} error=${wrong === name ? error.message : null} onInput=${change(name)} />`;
  return html`<fieldset class="setup">
    <legend class="visually-hidden">${title}</legend>
    <div class="setup-fields">
      <${Field} id=${`${side}-model`} label="Model" error=${wrong === "model" ? error.message : null}>
        <select id=${`${side}-model`} value=${setup.model} ...${describedBy(`${side}-model`, { error: wrong === "model" })}
          onChange=${(event) => onChange({ ...setup, model: event.target.value, method: "" })}>
          ${models.map((each) => html`<option key=${each.id} value=${each.id}>${each.id}</option>`)}
        </select>
      <//>
      ${names.filter((name) => name in FIRST).map(parameter)}
    </div>
    <p class="hint">${!setup.method && preset && introduce(preset.description, method)}${readSummary(method)}</p>
    <details open=${others.includes(wrong) || wrong === "method"}>
      <summary>More parameters</summary>
      <div class="setup-fields more">
        <${Field} id=${`${side}-method`} label="Method" error=${wrong === "method" ? error.message : null}>
          <select id=${`${side}-method`} value=${setup.method} onChange=${(event) => onChange({ ...setup, method: event.target.value })}>
            <option value="">as the model says (${methodOf({ ...setup, method: "" }, models)})</option>
            ${catalog.methods.map((each) => html`<option key=${each.name} value=${each.name}>${each.name}</option>`)}
          </select>
        <//>
        ${others.map(parameter)}
      </div>
    </details>
  </fieldset>`;
}

/** What the operator says of a model, unless the method's summary begins with it. */
function introduce(description, method) {
  const isSaid = method?.summary.toLowerCase().startsWith(description.toLowerCase());
  return description && !isSaid && html`<bdi>${description}</bdi>. `;
}

function readSummary(method) {
  const text = method?.summary.replaceAll("`", "") ?? "";
  return text && `${text[0].toUpperCase()}${text.slice(1)}.`;
}

function Parameter({ id, name, parameter, inForce, value, error, onInput }) {
  const label = FIRST[name] ?? NAMES[name] ?? name;
  const usual = inForce ?? parameter.default;
  const attributes = { id, value, title: parameter.description, ...describedBy(id, { error }) };
  const input =
    parameter.type === "choice"
      ? html`<select ...${attributes} onChange=${onInput}>
          <option value="">${usual}</option>
          ${parameter.choices.filter((each) => each !== usual).map((each) => html`<option key=${each} value=${each}>${each}</option>`)}
        </select>`
      : html`<input ...${attributes} type="text" autocomplete="off" spellcheck="false" inputmode=${parameter.type === "text" ? "text" : "decimal"}
          placeholder=${typeof usual === "object" || usual === undefined ? "automatic" : String(usual)} onInput=${onInput} />`;
  return html`<${Field} id=${id} label=${label} error=${error}>${input}<//>`;
}
