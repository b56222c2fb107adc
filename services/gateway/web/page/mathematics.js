/**
 * Mathematics in the text of models and users: `$…$`, `$$…$$`, `\(…\)`, `\[…\]` and a bare `\boxed{…}`.
 *
 * A dollar opens mathematics as in Pandoc: no space behind it, none before the closing dollar, no digit behind that,
 * so that "$5 and $6" is money. What KaTeX cannot parse stays text. KaTeX is loaded when a text has mathematics.
 */

import { loadKatex, setFormula } from "./katex.js";

const FENCES = [
  { open: "$$", close: "$$", isDisplay: true },
  { open: "\\[", close: "\\]", isDisplay: true },
  { open: "\\(", close: "\\)", isDisplay: false },
];
const DOLLARS = /\$(?=[^\s$])((?:[^$\\\n]|\\[^\n])*?)(?<=[^\s\\]|\\.)\$(?!\d)/y;
const MAX_CHARACTERS = 5000; // of one formula
let katex = null;

/** Return the text as parts in order: `{text}`, or `{text, tex, isDisplay}`, whose `text` is the source with fences. */
export function parse(text) {
  return trimAroundDisplays(split(text));
}

/** Return the same parts, which joined are the text. */
function split(text) {
  const parts = [];
  let plainFrom = 0;
  for (let at = 0; at < text.length; at += 1) {
    const found = "$\\".includes(text[at]) ? mathematicsAt(text, at) : null;
    if (!found) {
      if (text[at] === "\\") at += 1; // an escaped dollar is a dollar
      continue;
    }
    if (at > plainFrom) parts.push({ text: text.slice(plainFrom, at) });
    parts.push(found);
    plainFrom = at + found.text.length;
    at = plainFrom - 1;
  }
  if (plainFrom < text.length) parts.push({ text: text.slice(plainFrom) });
  return parts;
}

/** A formula on a line of its own needs no space beside it. */
function trimAroundDisplays(parts) {
  return parts.map((part, i) => {
    if (part.tex !== undefined) return part;
    let { text } = part;
    if (parts[i - 1]?.isDisplay) text = text.trimStart();
    if (parts[i + 1]?.isDisplay) text = text.trimEnd();
    return { text };
  });
}

function mathematicsAt(text, at) {
  const fence = FENCES.find(({ open }) => text.startsWith(open, at));
  if (fence) return fenced(text, at, fence);
  if (text.startsWith("\\boxed{", at)) return boxed(text, at);
  DOLLARS.lastIndex = at;
  const match = text[at] === "$" ? DOLLARS.exec(text.slice(0, at + MAX_CHARACTERS)) : null;
  return match && { text: match[0], tex: match[1], isDisplay: false };
}

function fenced(text, at, { open, close, isDisplay }) {
  const rest = text.slice(at + open.length, at + open.length + MAX_CHARACTERS);
  const end = rest.indexOf(close);
  const tex = rest.slice(0, Math.max(0, end));
  return tex.trim() ? { text: open + tex + close, tex, isDisplay } : null;
}

function boxed(text, at) {
  for (let i = at + "\\boxed{".length, depth = 1; i < Math.min(text.length, at + MAX_CHARACTERS); i += 1) {
    if (text[i] === "\\") i += 1;
    else if (text[i] === "{") depth += 1;
    else if (text[i] === "}") depth -= 1;
    if (depth === 0) return { text: text.slice(at, i + 1), tex: text.slice(at, i + 1), isDisplay: false };
  }
  return null;
}

/** Load KaTeX; resolves when `set` can set mathematics. */
export async function load() {
  katex = await loadKatex();
}

/** Return whether `load` has ended. */
export function isLoaded() {
  return katex !== null;
}

/** Set a part's mathematics into `element`; its source stays as text where KaTeX refuses it. */
export function set(element, part, output) {
  setFormula(katex, element, part.tex, { isDisplayed: part.isDisplay, source: part.text, output });
}

/** Return a text as words, each with the space before it; a formula is one word. Joined they are the text. */
export function words(text) {
  const wordsOf = (part) => (part.tex === undefined ? (part.text.match(/\s*\S+\s*?(?=\s|$)|\s+/g) ?? []) : [part.text]);
  return split(text).flatMap(wordsOf);
}

/** Append a text to `element`, its mathematics set; for documents without the page's components. */
export function appendText(element, text, output) {
  for (const part of parse(text)) {
    if (part.tex === undefined) {
      element.append(part.text);
      continue;
    }
    const span = element.ownerDocument.createElement("span");
    set(span, part, output);
    element.append(span);
  }
}
