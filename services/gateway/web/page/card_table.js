/** A table whose rows are cards on a narrow screen. Its style is in jobs.css. */

import { html } from "./vendor/htm/standalone.module.js";

/**
 * Roles are spelt out: a browser drops those of a table that is laid out in another way.
 * `columns`: `[{name, label, show: (row) => any}]`; a cell has the class `in-NAME`. `rowKey`: (row) => its id.
 */
export function CardTable({ caption, columns, rows, rowKey }) {
  return html`<div class="table-scroll cards" tabindex="0" role="region" aria-label=${caption}>
    <table role="table">
      <caption class="visually-hidden">${caption}</caption>
      <thead role="rowgroup"><tr role="row">${columns.map(({ name, label }) => html`<th role="columnheader" scope="col" key=${name} class=${`in-${name}`}>${label}</th>`)}</tr></thead>
      <tbody role="rowgroup">
        ${rows.map(
          (row) => html`<tr role="row" key=${rowKey(row)}>
            ${columns.map(({ name, label, show }) => html`<td role="cell" key=${name} class=${`in-${name}`} data-label=${label}>${show(row)}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}
