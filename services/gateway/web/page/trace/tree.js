/** A search as a tree: the rounds at a glance, the branches with their texts, and the votes of the responses. */

import { html } from "../vendor/htm/standalone.module.js";
import { Badge } from "../ui.js";
import { Text } from "../text.js";
import { read, show } from "./numbers.js";
import { boxedAnswer, grow, score, textOf, votes } from "./trajectories.js";

const MAX_COLUMNS = 40; // of the picture: more trajectories than that are only a list
const CELL = 22;
const NAMES = { "beam-search": "The beams", "particle-filter": "The particles", dvts: "The subtrees" };
const CUTS = new Set(["beam-search", "particle-filter"]); // methods whose branches may end before the last round

/** The tree of a search. `chosen`: the leaf that is the answer, null while the job runs. */
export function Tree({ steps, params, chosen, tree = grow(steps) }) {
  const answerNodes = new Set();
  for (let node = chosen; node; node = node.parent) answerNodes.add(node);
  const isVote = params.method === "majority-vote";
  const children = childrenOf(tree);
  return html`<section class="tree" aria-labelledby="tree-title">
    <h2 id="tree-title">${isVote ? "The responses and their votes" : NAMES[params.method] ?? "The responses"}</h2>
    ${isVote && html`<${Votes} leaves=${tree.leaves} chosen=${chosen} />`}
    <${Picture} tree=${tree} answerNodes=${answerNodes} />
    ${CUTS.has(params.method) && html`<p class="legend"><${Badge} kind="good">the answer<//> <${Badge}>kept<//> <del>cut</del> <span class="quiet">${params.method === "particle-filter" ? "A branch is cut when no particle is resampled from it." : "A branch is cut when other branches have higher scores."}</span></p>`}
    <${CutCandidates} nodes=${(children.get(null) ?? []).filter((node) => node.isCut)} />
    <ul class="branches">${chains(children, null).map((chain) => html`<${Chain} chain=${chain} params=${params} answerNodes=${answerNodes} />`)}</ul>
  </section>`;
}

/** How many responses gave each answer. */
function Votes({ leaves, chosen }) {
  const all = votes(leaves);
  const most = Math.max(1, ...all.map((each) => each.places.length));
  const place = leaves.indexOf(chosen);
  return html`<table class="votes">
    <caption>Votes per answer, as the answers are written. The vote itself also counts answers as equal that are written in another way.</caption>
    <thead><tr><th scope="col">answer</th><td></td><th scope="col">votes</th></tr></thead>
    <tbody>${all.map(
      ({ answer, places }) => html`<tr class=${places.includes(place) ? "chosen" : ""} key=${answer ?? ""}>
        <th scope="row">${answer === null ? html`<span class="quiet">no answer yet, or none: no vote</span>` : html`<${Text} text=${`\\(${answer}\\)`} />`}${places.includes(place) && html` <${Badge} kind="good">the answer<//>`}</th>
        <td class="with-bar"><svg viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true"><rect x="0" y="1" width=${(100 * places.length) / most} height="8" /></svg></td>
        <td>${places.length}</td>
      </tr>`,
    )}</tbody>
  </table>`;
}

/** Round below round, a dot for each step, a line to the step before; cut candidates are small and hollow. */
function Picture({ tree, answerNodes }) {
  const columns = Math.max(...tree.rounds.map((nodes) => nodes.length), 1);
  if (columns > MAX_COLUMNS) return null;
  const at = places(tree.rounds, columns);
  const top = { x: (columns * CELL) / 2, y: CELL / 2 };
  const nodes = tree.rounds.flat();
  const kind = (node) => (answerNodes.has(node) ? "answer" : node.isKept ? "kept" : "cut");
  const label = `${tree.rounds.length} rounds, ${nodes.filter((node) => node.isKept).length} kept steps, ${nodes.filter((node) => !node.isKept).length} cut steps`;
  const size = [columns * CELL, (tree.rounds.length + 1) * CELL];
  return html`<div class="picture"><svg role="img" aria-label=${label} viewBox=${`0 0 ${size[0]} ${size[1]}`} width=${size[0]} height=${size[1]}>
    ${nodes.map((node) => {
      const [from, to] = [node.parent ? at.get(node.parent) : top, at.get(node)];
      return html`<path class=${kind(node)} d=${`M${from.x} ${from.y} C${from.x} ${from.y + CELL / 2} ${to.x} ${to.y - CELL / 2} ${to.x} ${to.y}`} />`;
    })}
    <circle class="prompt" cx=${top.x} cy=${top.y} r="5"><title>the prompt</title></circle>
    ${nodes.map((node) => html`<circle class=${kind(node)} cx=${at.get(node).x} cy=${at.get(node).y} r=${node.isKept ? 5 : 3.5}><title>${node.step.text.trim().slice(0, 200)}</title></circle>`)}
  </svg></div>`;
}

/** Return where each node stands, in order of its parent's place, so that few lines cross. */
function places(rounds, columns) {
  const at = new Map();
  rounds.forEach((nodes, round) => {
    const order = (node) => (node.parent ? at.get(node.parent).x : 0);
    const sorted = nodes.map((node, i) => ({ node, i })).sort((a, b) => order(a.node) - order(b.node) || a.i - b.i);
    const left = (columns - nodes.length) / 2;
    sorted.forEach(({ node }, i) => at.set(node, { x: (left + i + 0.5) * CELL, y: (round + 1.5) * CELL }));
  });
  return at;
}

function childrenOf(tree) {
  const children = new Map();
  for (const node of tree.rounds.flat()) {
    if (!children.has(node.parent)) children.set(node.parent, []);
    children.get(node.parent).push(node);
  }
  return children;
}

/** Return the branches below a node: `{nodes, children, cut}`; steps that follow each other without a fork are one branch. */
function chains(children, from) {
  const grown = (children.get(from) ?? []).filter((node) => !node.isCut);
  return grown.map((first) => {
    const nodes = [first];
    const cut = [];
    for (;;) {
      const next = children.get(nodes.at(-1)) ?? [];
      cut.push(...next.filter((node) => node.isCut));
      const alive = next.filter((node) => !node.isCut);
      if (alive.length !== 1) return { nodes, cut, children: chains(children, nodes.at(-1)) };
      nodes.push(alive[0]);
    }
  });
}

function Chain({ chain: { nodes, cut, children }, params, answerNodes }) {
  const last = nodes.at(-1);
  const isAnswer = answerNodes.has(last);
  const isKept = nodes[0].isKept;
  const steps = nodes.length === 1 ? `step ${nodes[0].round + 1}` : `steps ${nodes[0].round + 1} to ${last.round + 1}`;
  const isOfBeams = CUTS.has(params.method);
  const name = isOfBeams ? "" : `response ${nodes[0].place + 1}, `;
  const isRated = read(last.step.reward) !== null;
  return html`<li class=${isAnswer ? "answer" : isKept ? "kept" : "cut"}>
    <details open=${isAnswer}>
      <summary>${(isAnswer || isOfBeams) && html`<${Badge} kind=${isAnswer ? "good" : "neutral"}>${isAnswer ? "the answer" : isKept ? "kept" : "cut"}<//> `}${name}${steps}${isRated && `, score ${show(score(last, params.aggregate), 2)}`}${children.length === 0 && html`<${Ending} leaf=${last} />`}</summary>
      <ol start=${nodes[0].round + 1}>${nodes.map((node) => html`<li class=${node.step.source}>${isKept ? html`<${Text} text=${node.step.text.trimEnd()} />` : html`<del><${Text} text=${node.step.text.trimEnd()} /></del>`}</li>`)}</ol>
      <${CutCandidates} nodes=${cut} />
    </details>
    ${children.length > 0 && html`<ul>${children.map((chain) => html`<${Chain} chain=${chain} params=${params} answerNodes=${answerNodes} />`)}</ul>`}
  </li>`;
}

function CutCandidates({ nodes }) {
  if (!nodes.length) return null;
  const row = ({ round, step }) => html`<li><span class="quiet">step ${round + 1}, reward ${show(step.reward, 2)}</span> <del><${Text} text=${step.text.trimEnd()} /></del></li>`;
  return html`<details class="cut-candidates"><summary>${nodes.length} ${nodes.length === 1 ? "candidate that was cut" : "candidates that were cut"}</summary><ul>${nodes.map(row)}</ul></details>`;
}

function Ending({ leaf }) {
  const answer = boxedAnswer(textOf(leaf));
  return answer === null ? null : html`: <${Text} text=${`\\(${answer}\\)`} />`;
}
