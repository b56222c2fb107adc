/** The view of `#/evaluations`: the folders that `gsi eval` wrote. */

import { html } from "./vendor/htm/standalone.module.js";
import { get } from "./api.js";
import { Badge, Empty, ErrorBox, Loading, Table, formatNumber, useLoaded } from "./ui.js";

/** The view. */
export default function Evaluations({ session }) {
  const found = useLoaded((signal) => get("/gsi/v1/evaluations", {}, signal), []);
  return html`<div class="evaluations">
    <h1>Evaluations</h1>
    <${ErrorBox} error=${found.error} onRetry=${found.reload} />
    ${!found.value && !found.error && html`<${Loading} />`}
    ${found.value && list()}
  </div>`;

  function list() {
    if (!session.has_evaluations) return html`<${Empty} title="No folder of evaluations is set">The operator names one by <code>GSI_GATEWAY_EVALUATIONS</code>.<//>`;
    if (!found.value.evaluations.length) return html`<${Empty} title="No evaluations yet"><code>gsi eval</code> writes one.<//>`;
    return html`<${Table} caption="Evaluations, the newest first" columns=${COLUMNS} rows=${found.value.evaluations} rowKey=${(each) => each.name} />`;
  }
}

const COLUMNS = [
  { key: "name", label: "Evaluation", render: (each) => html`<a href=${`#/evaluations/${encodeURIComponent(each.name)}`}>${each.name}</a>` },
  { key: "dataset", label: "Data set", render: (each) => each.dataset ?? "–" },
  { key: "methods", label: "Methods", render: (each) => each.methods.join(", ") },
  { key: "ns", label: "n", isNumber: true, render: (each) => each.ns.join(", ") },
  { key: "problems", label: "Problems", isNumber: true, render: (each) => formatNumber(each.problems) },
  { key: "seeds", label: "Seeds", isNumber: true, render: (each) => formatNumber(each.seeds) },
  { key: "date", label: "Date", render: (each) => each.date ?? "–" },
  { key: "state", label: "Report", render: (each) => html`<${Badge} kind=${each.is_finished ? "good" : "busy"}>${each.is_finished ? "written" : "not yet"}<//>` },
];
