/** The panel of one step: every candidate as bars on shared scales, how one was drawn, and what the step cost. */

import { html } from "../vendor/htm/standalone.module.js";
import { PhaseBar, Bar, Tokens } from "./bars.js";
import { phases, tokens } from "./costs.js";
import { differences } from "./differences.js";
import { range, show, showProbability } from "./numbers.js";
import { RULES, acceptanceTest, figures } from "./selection.js";
import { Text } from "../text.js";

/** What is behind a step: `record` is its round's, `parent` the place of its trajectory in the round before. */
export function Panel({ record, params, parent = null, taken = null }) {
  const proposals = (record.proposals ?? []).filter((each) => parent === null || (each.parent ?? 0) === parent);
  const all = proposals.map((proposal) => figures(proposal, params));
  const test = acceptanceTest(params);
  const scales = sharedScales(all.flatMap((each) => each.candidates), test);
  return html`
    ${all.map((each, i) => html`<${Candidates} figures=${each} scales=${scales} test=${each.source === "draft" ? test : null} taken=${taken} key=${i} />`)}
    ${all.length === 0 && html`<p class="hint">This job did not keep its candidates. To see them, submit it with <code>keep_candidates: true</code> (in the playground: Keep candidates).</p>`}
    <div class="costs">
      <${PhaseBar} seconds=${phases(record)} label=${record.branches?.length ? "Seconds of the round" : "Seconds of the step"} />
      <${Tokens} tokens=${tokens([record])} label="Tokens" />
    </div>`;
}

/** Return the scales that all candidates of a step share, so that a bar of the draft's and one of the target's compare. */
export function sharedScales(candidates, test) {
  const scale = (field, also) => range(candidates.map((each) => each[field]), also);
  const lineOf = (name) => (test?.of === name ? [test.least] : []);
  return {
    reward: scale("reward", [0, 1, ...lineOf("reward")]),
    logRatio: scale("logRatio", [0]),
    tilted: scale("tiltedReward", [0, 1, ...lineOf("tilted reward")]),
  };
}

function Candidates({ figures: { source, rule, candidates }, scales, test, taken }) {
  const drawn = candidates.find((each) => each.isDrawn);
  const columns = columnsOf(candidates, scales, test);
  const isTaken = (each) => each.isDrawn || (taken !== null && each.text === taken);
  const reference = drawn ?? candidates.find(isTaken) ?? null;
  const rows = ranked(candidates);
  const sameAs = (each, i) => [reference, ...rows.slice(0, i)].find((other) => other && other !== each && other.text === each.text)?.index ?? null;
  return html`<div class=${`proposal ${source}`}>
    <h4><span class=${`swatch ${source}`}></span>${candidates.length === 1 ? `The ${source}'s candidate` : `The ${source}'s ${candidates.length} candidates`}</h4>
    <p class="rule">${capital(RULES[rule])}.${test && html` It passes if its ${test.of} is ${test.isStrict ? "above" : "at least"} ${test.name} = ${show(test.least)}${" "}(the line).`}</p>
    <table role="table" class="candidates">
      <thead role="rowgroup"><tr role="row">
        <th role="columnheader" scope="col">candidate</th>
        ${columns.map(({ name, scale }) => html`<th role="columnheader" scope="col" key=${name}>${name}${scale && html`<span class="scale"><span>${show(scale[0], 1)}</span><span>${show(scale[1], 1)}</span></span>`}</th>`)}
      </tr></thead>
      <tbody role="rowgroup">${rows.map((each, i) => html`<${Row} candidate=${each} columns=${columns} isTaken=${isTaken(each)} rule=${rule} reference=${reference} sameAs=${each === reference ? null : sameAs(each, i)} key=${each.index} />`)}</tbody>
    </table>
  </div>`;
}

/** Return the columns of numbers that were computed for some candidate. */
function columnsOf(candidates, scales, test) {
  const has = (field) => candidates.some((each) => each[field] !== null);
  return [
    has("reward") && { name: "reward", of: (each) => each.reward, scale: scales.reward, line: test?.of === "reward" ? test.least : null },
    has("logRatio") && { name: "log-ratio", of: (each) => each.logRatio, scale: scales.logRatio, line: null, unit: " nats" },
    has("tiltedReward") && { name: "tilted reward", of: (each) => each.tiltedReward, scale: scales.tilted, line: test?.of === "tilted reward" ? test.least : null },
    has("probability") && { name: "drawn with", of: (each) => each.probability, scale: null, line: null },
  ].filter(Boolean);
}

/** Best first: by tilted reward, else by reward; by index where these are equal. */
function ranked(candidates) {
  const value = ({ tiltedReward, reward }) => {
    const number = tiltedReward ?? reward ?? -Infinity;
    return Number.isNaN(number) ? -Infinity : number;
  };
  return [...candidates].sort((a, b) => (value(a) === value(b) ? a.index - b.index : value(a) < value(b) ? 1 : -1));
}

function Row({ candidate, columns, isTaken, rule, reference, sameAs }) {
  const word = candidate.isDrawn && (rule === "tilted" || rule === "reward") ? "drawn" : "kept";
  return html`<tr role="row" class=${isTaken ? "drawn" : ""} data-index=${candidate.index}>
    <td role="cell" class="text"><span class="number">${candidate.index + 1}</span>${isTaken && html`<strong class="badge">${word}</strong>`}${" "}
      <${Written} candidate=${candidate} reference=${reference} sameAs=${sameAs} />
      ${candidate.finishReason === "length" && html`<span class="quiet"> (cut at the limit of tokens)</span>`}</td>
    ${columns.map(({ name, of, scale, line, unit = "" }) => html`<td role="cell" class="number" data-label=${name} key=${name}>
      ${scale ? html`<${Bar} value=${of(candidate)} scale=${scale} line=${line} /><span class="figure">${show(of(candidate))}<span class="unit">${unit}</span></span>` : html`<span class="figure">${showProbability(of(candidate))}</span>`}</td>`)}
  </tr>`;
}

/** A candidate's text with the words marked that the drawn one does not have; a text that stands above is not repeated. */
function Written({ candidate, reference, sameAs }) {
  const text = candidate.text.trimEnd();
  if (sameAs !== null) return html`<span class="quiet">the same text as candidate ${sameAs + 1}</span>`;
  if (!reference || candidate === reference) return html`<${Text} text=${text} />`;
  const parts = differences(text, reference.text.trimEnd());
  return html`<span class="prose">${parts.map((part) => (part.isSame ? html`<${Text} text=${part.text} />` : html`<mark><${Text} text=${part.text} /></mark>`))}</span>`;
}

function capital(words) {
  return words[0].toUpperCase() + words.slice(1);
}
