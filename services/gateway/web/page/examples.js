/** Problems that the family of models can answer that comes with the code: its `models/heldout.jsonl` has more. `answer` is the right one. */

export const EXAMPLES = [
  {
    label: "Shells",
    answer: "20",
    prompt:
      "On Sunday Mia has 7 shells. On Monday Tom brings her 4 bags of 3 shells. On Tuesday she loses 9 shells. On Wednesday she doubles the shells. How many shells does Mia have at the end?",
  },
  {
    label: "Pens",
    answer: "37",
    prompt:
      "On Monday Max has 19 pens. On Tuesday Ada gives him 18 pens. On Wednesday he sells 2 boxes of 3 pens. On Thursday he finds 18 pens. On Friday he loses 12 pens. How many pens does Max have at the end?",
  },
  {
    label: "Cards, a longer one",
    answer: "17",
    prompt:
      "On Wednesday Sam has 48 cards. On Thursday he buys 5 packs of 5 cards. On Friday he loses 9 cards. On Saturday he sells 3 boxes of 9 cards. On Sunday he uses 19 cards. On Monday he lends Lea 8 cards. On Tuesday he wins 7 cards. How many cards does Sam have at the end?",
  },
];

/** Returns the right answer to a question; null where it is not known. */
export function answerTo(prompt) {
  return EXAMPLES.find((each) => each.prompt === prompt)?.answer ?? null;
}
