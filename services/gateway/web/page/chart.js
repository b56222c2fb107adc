/** A small chart over time, drawn by uPlot in the colours of the theme. Loaded with the views that need it. */

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { html, useEffect, useRef, useState } from "./vendor/htm/standalone.module.js";
import { addStyles } from "./styles.js";

addStyles("vendor/uplot/uPlot.min.css");

const HEIGHT = 150;
const LEAST_SECONDS = 60; // of the axis
const SECONDS = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];
const COUNTS = [1, 2, 5].flatMap((digit) => [1, 10, 100, 1000, 10_000, 100_000].map((power) => digit * power)).sort((a, b) => a - b);

/**
 * Lines over time. `series`: `[{label, color, dash?, values: number[]}]`, where `color` names a colour of app.css, and lines differ in
 * dash as well; `times`: seconds since 1970. `summary` says in words what is drawn. The data may grow while it is shown.
 */
export function TimeChart({ times, series, summary }) {
  const place = useRef(null);
  const plot = useRef(null);
  const theme = useTheme();
  useEffect(() => {
    const made = new uPlot(describe(place.current, series), [times, ...series.map((each) => each.values)], place.current);
    plot.current = made;
    const observer = new ResizeObserver(() => made.setSize({ width: place.current.clientWidth, height: HEIGHT }));
    observer.observe(place.current);
    return () => (observer.disconnect(), made.destroy());
  }, [theme]);
  useEffect(() => plot.current.setData([times, ...series.map((each) => each.values)]), [times]);
  return html`<figure class="chart">
    <figcaption class="chart-legend">${series.map((each) => html`<${Key} series=${each} />`)}</figcaption>
    <div ref=${place} role="img" aria-label=${summary}></div>
  </figure>`;
}

function Key({ series }) {
  return html`<span class="chart-key">
    <svg width="22" height="8" aria-hidden="true"><line class=${`stroke-${series.color}`} x1="0" y1="4" x2="22" y2="4" stroke-width="2" stroke-dasharray=${series.dash?.join(" ")} /></svg>
    ${series.label}
  </span>`;
}

/** Returns a word that changes with the colours of the page. */
function useTheme() {
  const read = () => `${document.documentElement.dataset.theme ?? ""}/${matchMedia("(prefers-color-scheme: dark)").matches}`;
  const [theme, setTheme] = useState(read);
  useEffect(() => {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const follow = () => setTheme(read());
    const observer = new MutationObserver(follow);
    observer.observe(document.documentElement, { attributeFilter: ["data-theme"] });
    dark.addEventListener("change", follow);
    return () => (observer.disconnect(), dark.removeEventListener("change", follow));
  }, []);
  return theme;
}

function describe(place, series) {
  const color = (name) => resolve(place, name);
  const axis = {
    stroke: color("ink-soft"),
    grid: { stroke: color("line"), width: 1 },
    ticks: { stroke: color("line"), width: 1, size: 4 },
    font: `11px ${getComputedStyle(place).fontFamily}`,
  };
  return {
    width: place.clientWidth,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { range: (_plot, first, last) => [first, Math.max(last, first + LEAST_SECONDS)] }, y: { range: (_plot, _least, most) => [0, Math.max(1, most * 1.1)] } },
    axes: [
      { ...axis, space: 80, incrs: SECONDS, values: (_plot, times) => times.map(formatTime) },
      { ...axis, size: 44, space: 28, incrs: COUNTS },
    ],
    series: [{}, ...series.map((each) => ({ label: each.label, stroke: color(each.color), width: 2, dash: each.dash, points: { show: false } }))],
  };
}

function formatTime(seconds) {
  return new Date(seconds * 1000).toLocaleTimeString("en", { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
}

/** Returns a colour of the page as a canvas takes it: `light-dark()` is resolved on an element. */
function resolve(place, name) {
  const probe = document.createElement("span");
  probe.className = `color-${name}`;
  place.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}
