/**
 * A trace as one HTML file: no script, no request, mathematics as MathML. Texts become text nodes of a document of
 * their own, which the browser writes out, so whatever a model or a user wrote stays text.
 */

import * as mathematics from "../mathematics.js";
import { showSeconds, show, showProbability } from "./numbers.js";
import { PHASES, sumPhases, tokens } from "./costs.js";
import { differences } from "./differences.js";
import { RULES, figures, parametersOf, sayJudgement, whyRejected } from "./selection.js";
import { boxedAnswer, textOf, votes } from "./trajectories.js";

const POLICY = "default-src 'none'; style-src 'unsafe-inline'";
const STYLES = `
:root { color-scheme: light dark; --draft: light-dark(#0b62a8, #7cc0ff); --target: light-dark(#8a3b00, #ffb070); --quiet: light-dark(#5a6270, #a4adba); --line: light-dark(#d7dce3, #3a414c); }
body { font: 1rem/1.6 system-ui, sans-serif; max-width: 50rem; margin: 2rem auto; padding: 0 1rem; overflow-wrap: anywhere; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } .quiet, .why { color: var(--quiet); font-size: .875rem; }
.text { white-space: pre-wrap; } .step { border-inline-start: 4px solid var(--draft); padding-inline-start: 1rem; margin: 1.25rem 0; } .step.target { border-color: var(--target); }
.writer { font-weight: 600; color: var(--draft); } .target > .writer { color: var(--target); } del { display: block; color: var(--quiet); margin-bottom: .6rem; } math[display="block"] { margin: .4rem 0; } .why { margin: 0; }
details { margin: .5rem 0; } .scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; } th { white-space: nowrap; } th, td { text-align: start; vertical-align: top; padding: .3rem .6rem; border-bottom: 1px solid var(--line); }
menclose { border: 1px solid; padding: .1em .3em; } td.n { white-space: nowrap; text-align: end; } tr.drawn td { font-weight: 600; } mark { background: light-dark(#ffe9a8, #5c4a00); color: inherit; }
`;

/** Return the file's text. `shown` are the answer's steps, as in `trace.js`. */
export async function exportHtml({ job, id, steps, params, shown }) {
  await mathematics.load();
  const page = document.implementation.createHTMLDocument(`Trace of job ${id}`);
  const { put, text } = writer(page);
  writeHead(put, text, page.body, { job, id, steps, params });
  writeAnswer(put, text, page.body, shown.steps, params);
  if (params.method === "majority-vote") writeVotes(put, text, page.body, shown.tree.leaves);
  else if (shown.tree) writeBranches(put, text, page.body, shown.tree, shown.chosen);
  // The style is added to the text: this page's policy holds in documents that it makes, and allows none in markup.
  const head = `<meta charset="utf-8">\n<meta http-equiv="Content-Security-Policy" content="${POLICY}">\n<style>${STYLES}</style>`;
  return `<!doctype html>\n<html lang="en">\n<head>\n${head}\n${page.querySelector("title").outerHTML}\n</head>\n${page.body.outerHTML}\n</html>\n`;
}

/** Return what makes elements: `put` one with plain text in it, `text` one whose mathematics is set. */
function writer(page) {
  const put = (parent, name, attributes = {}, content = "") => {
    const element = page.createElement(name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    element.append(content);
    parent.append(element);
    return element;
  };
  const text = (parent, name, content) => {
    mathematics.appendText(put(parent, name, { class: "text" }), content.trimEnd(), "mathml");
  };
  return { put, text };
}

function writeHead(put, text, body, { job, id, steps, params }) {
  put(body, "h1", {}, `Trace of job ${id}`);
  const sum = tokens(steps);
  const phases = Object.entries(sumPhases(steps)).map(([phase, seconds]) => `${PHASES[phase]} ${showSeconds(seconds)}`);
  const numbers = parametersOf(params).map(([name, number]) => `, ${name} = ${number}`);
  put(body, "p", {}, `${job.state.toLowerCase()}; method ${params.method}${numbers.join("")}`);
  put(body, "p", { class: "quiet" }, `${steps.length} steps; tokens written: draft ${sum.draft}, target ${sum.target}; seconds: ${phases.join(", ") || "none"}`);
  if (job.error) put(body, "p", {}, job.error);
  put(body, "h2", {}, "Prompt");
  for (const { role, content } of job.messages ?? [{ role: "user", content: job.prompt ?? "" }]) {
    if (job.messages) put(body, "p", { class: "quiet" }, role);
    text(body, "div", content);
  }
}

function writeAnswer(put, text, body, shown, params) {
  put(body, "h2", {}, "Answer");
  for (const { step, record, parent } of shown) {
    const section = put(body, "section", { class: `step ${step.source}`, id: `step-${step.index + 1}` });
    put(section, "p", { class: "writer" }, `Step ${step.index + 1}, ${step.source}`);
    if (step.rejected) {
      put(section, "p", { class: "why" }, `The draft's step was rejected: ${whyRejected(step.rejected, params, step.judgements)}.`);
      text(section, "del", step.rejected.text);
    }
    text(section, "div", step.text);
    for (const judgement of step.judgements ?? []) put(section, "p", { class: "quiet" }, `${sayJudgement(judgement)}.`);
    const proposals = (record.proposals ?? []).filter((each) => parent === null || (each.parent ?? 0) === parent);
    for (const proposal of proposals) writeCandidates(put, section, figures(proposal, params));
  }
}

function writeCandidates(put, section, { source, rule, candidates }) {
  const details = put(section, "details");
  put(details, "summary", {}, `The ${source}'s candidates: ${candidates.length}`);
  put(details, "p", { class: "quiet" }, `${RULES[rule]}.`);
  const table = put(put(details, "div", { class: "scroll" }), "table");
  const head = put(put(table, "thead"), "tr");
  for (const name of ["", "candidate", "reward", "log-ratio, nats", "tilted reward", "drawn with"]) put(head, "th", {}, name);
  const rows = put(table, "tbody");
  const reference = candidates.find((each) => each.isDrawn);
  for (const each of candidates) {
    const row = put(rows, "tr", each.isDrawn ? { class: "drawn" } : {});
    put(row, "td", { class: "n" }, `${each.index + 1}${each.isDrawn ? " (drawn)" : ""}`);
    const cell = put(row, "td", { class: "text" });
    const parts = reference ? differences(each.text.trimEnd(), reference.text.trimEnd()) : [{ text: each.text.trimEnd(), isSame: true }];
    for (const part of parts) mathematics.appendText(part.isSame ? cell : put(cell, "mark"), part.text, "mathml");
    const numbers = [show(each.reward), show(each.logRatio), show(each.tiltedReward), showProbability(each.probability)];
    for (const number of numbers) put(row, "td", { class: "n" }, number);
  }
}

function writeVotes(put, text, body, leaves) {
  put(body, "h2", {}, "Votes");
  for (const { answer, places } of votes(leaves)) put(body, "p", {}, `${places.length}: ${answer ?? "no answer"}`);
  writeTrajectories(put, text, body, leaves);
}

function writeBranches(put, text, body, tree, chosen) {
  put(body, "h2", {}, "Kept trajectories");
  writeTrajectories(put, text, body, [...new Set(tree.leaves)].filter((leaf) => leaf && leaf !== chosen));
}

function writeTrajectories(put, text, body, leaves) {
  leaves.forEach((leaf, place) => {
    if (!leaf) return;
    const details = put(body, "details");
    const answer = boxedAnswer(textOf(leaf));
    put(details, "summary", {}, `Trajectory ${place + 1}${answer === null ? "" : `: ${answer}`}`);
    text(details, "div", textOf(leaf));
  });
}
