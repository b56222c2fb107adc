/** The differences between two texts, word by word: what of a candidate's text the drawn candidate does not have. A formula is one word. */

import { words as split } from "../mathematics.js";

const MAX_CELLS = 1_000_000; // of the table of the longest common subsequence: a few milliseconds

/** Return `text` as parts, each `{text, isSame}`, in order; `isSame` is false for words that `other` lacks there. */
export function differences(text, other) {
  const words = split(text);
  const others = split(other);
  const start = commonLength(words, others, (list, i) => list[i]);
  const room = Math.min(words.length, others.length) - start;
  const end = Math.min(room, commonLength(words, others, (list, i) => list[list.length - 1 - i]));
  const middle = commonWords(words.slice(start, words.length - end), others.slice(start, others.length - end));
  const same = words.map((_, i) => i < start || i >= words.length - end || middle.has(i - start));
  return join(words, same);
}

function commonLength(words, others, at) {
  const most = Math.min(words.length, others.length);
  let length = 0;
  while (length < most && at(words, length) === at(others, length)) length += 1;
  return length;
}

/** Return the places in `words` of a longest common subsequence with `others`; none if the table would be too large. */
function commonWords(words, others) {
  const found = new Set();
  const width = others.length + 1;
  if (words.length * others.length > MAX_CELLS) return found;
  const lengths = new Uint16Array((words.length + 1) * width);
  for (let i = words.length - 1; i >= 0; i -= 1)
    for (let j = others.length - 1; j >= 0; j -= 1)
      lengths[i * width + j] =
        words[i].trim() === others[j].trim()
          ? lengths[(i + 1) * width + j + 1] + 1
          : Math.max(lengths[(i + 1) * width + j], lengths[i * width + j + 1]);
  for (let i = 0, j = 0; i < words.length && j < others.length; ) {
    if (words[i].trim() === others[j].trim()) {
      found.add(i);
      i += 1;
      j += 1;
    } else if (lengths[(i + 1) * width + j] >= lengths[i * width + j + 1]) i += 1;
    else j += 1;
  }
  return found;
}

function join(words, same) {
  const parts = [];
  words.forEach((word, i) => {
    const last = parts.at(-1);
    if (last && last.isSame === same[i]) last.text += word;
    else parts.push({ text: word, isSame: same[i] });
  });
  return parts;
}
