/** The view of `#/evaluations`: the folders that `gsi eval` wrote. */

import { html } from "./vendor/htm/standalone.module.js";
import { get } from "./api.js";
import { CardTable } from "./card_table.js";
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
    return html`<${CardTable} caption="Evaluations, the newest first" columns=${COLUMNS} rows=${found.value.evaluations} rowKey=${(each) => each.name} />`;
  }
}

const COLUMNS = [
  { name: "evaluation", label: "Evaluation", show: (each) => html`<a href=${`#/evaluations/${encodeURIComponent(each.name)}`}>${each.name}</a>` },
  { name: "dataset", label: "Data set", isNamed: true, show: (each) => each.dataset ?? "–" },
  { name: "methods", label: "Methods", isWide: true, show: (each) => each.methods.join(", ") },
  { name: "ns", label: "n", isNamed: true, show: (each) => each.ns.join(", ") },
  { name: "problems", label: "Problems", isNamed: true, show: (each) => formatNumber(each.problems) },
  { name: "seeds", label: "Seeds", isNamed: true, show: (each) => formatNumber(each.seeds) },
  { name: "date", label: "Date", show: (each) => each.date ?? "–" },
  { name: "report", label: "Report", isNamed: true, show: (each) => html`<${Badge} kind=${each.is_finished ? "good" : "busy"}>${each.is_finished ? "written" : "not yet"}<//>` },
];
