/**
 * Numbers of a step record. JSON has no infinities and no NaN: they are the strings "-Infinity", "Infinity" and "NaN";
 * null or an absent field means that no model was asked (docs/step.schema.json).
 */

/** Return the number that a record's field holds; null if no model was asked for it. */
export function read(value) {
  return value === null || value === undefined ? null : Number(value);
}

/** Return the number as a reader sees it: words for what is no finite number. `digits` are those after the point. */
export function show(value, digits = 3) {
  const number = read(value);
  if (number === null) return "not asked";
  if (Number.isNaN(number)) return "not a number";
  if (!Number.isFinite(number)) return number < 0 ? "minus infinity" : "infinity";
  return number.toFixed(digits).replace(/^-(0(?:\.0+)?)$/, "$1").replace("-", "\u2212");
}

/** Return a probability in percent; what is above 0 never reads as 0, and what is below 1 never as 100. */
export function showProbability(probability) {
  if (probability === null) return "no draw";
  const percent = 100 * probability;
  if (percent > 0 && percent < 0.1) return "< 0.1 %";
  if (percent < 100 && percent > 99.9) return "> 99.9 %";
  return `${percent.toFixed(percent === 0 || percent === 100 ? 0 : 1)} %`;
}

/** Return seconds with three digits that count: 12.3 ms, 1.23 s, 123 s. */
export function showSeconds(seconds) {
  if (seconds < 0.0009995) return `${(1e6 * seconds).toFixed(0)} \u00b5s`;
  if (seconds < 0.9995) return `${(1e3 * seconds).toPrecision(3)} ms`;
  return `${seconds < 99.95 ? seconds.toPrecision(3) : seconds.toFixed(0)} s`;
}

/** Return the least and the greatest finite number, widened to hold `also`; [0, 1] if there is none. */
export function range(values, also = []) {
  const finite = [...values, ...also].filter((value) => value !== null && Number.isFinite(value));
  return finite.length ? [Math.min(...finite), Math.max(...finite)] : [0, 1];
}
