/** The playground: a prompt, a model, and the answer as it grows. */

import { html, useRef, useState } from "./vendor/htm/standalone.module.js";
import { ApiError, events, post } from "./api.js";
import { Button, ErrorBox, Field, Source } from "./ui.js";

/** The view of `#/`. */
export default function Playground({ session }) {
  const [prompt, setPrompt] = useState("");
  const [model, setModel] = useState(session.models[0]?.id);
  const [steps, setSteps] = useState([]);
  const [error, setError] = useState(null);
  const running = useRef(null);
  return html`<form onSubmit=${run}>
    <h1>Playground</h1>
    <${Field} id="prompt" label="Prompt">
      <textarea id="prompt" rows="4" value=${prompt} onInput=${(event) => setPrompt(event.target.value)}></textarea>
    <//>
    <${Field} id="model" label="Model">
      <select id="model" value=${model} onChange=${(event) => setModel(event.target.value)}>
        ${session.models.map((each) => html`<option value=${each.id}>${each.id}</option>`)}
      </select>
    <//>
    <${Button} kind="primary" type="submit">Run<//>
    <${ErrorBox} error=${error} />
    <ol>${steps.map((step) => html`<li><${Source} source=${step.source} /> ${step.text}</li>`)}</ol>
  </form>`;

  async function run(event) {
    event.preventDefault();
    running.current?.abort();
    running.current = new AbortController();
    setSteps([]);
    setError(null);
    try {
      const { id } = await post("/gsi/v1/jobs", { model, prompt });
      await events(`/gsi/v1/jobs/${encodeURIComponent(id)}/events`, {
        signal: running.current.signal,
        onEvent: ({ event, data }) => event === "step" && setSteps((before) => [...before, data]),
      });
    } catch (failure) {
      if (!(failure instanceof ApiError)) throw failure;
      setError(failure);
    }
  }
}
