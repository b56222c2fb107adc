/** A table whose rows are cards on a narrow screen. A view that shows one names card_table.css among its styles. */

import { html } from "./vendor/htm/standalone.module.js";

/**
 * Roles are spelt out: a browser drops those of a table that is laid out in another way.
 * `columns`: `[{name, label, show: (row) => any, isNamed?: boolean, isWide?: boolean}]`; a cell has the class `in-NAME`. In a card, a
 * named cell begins with its label, and a wide one has its own line. `rowKey`: (row) => its id.
 */
export function CardTable({ caption, columns, rows, rowKey }) {
  return html`<div class="table-scroll cards" tabindex="0" role="region" aria-label=${caption}>
    <table role="table">
      <caption class="visually-hidden">${caption}</caption>
      <thead role="rowgroup"><tr role="row">${columns.map(({ name, label }) => html`<th role="columnheader" scope="col" key=${name} class=${`in-${name}`}>${label}</th>`)}</tr></thead>
      <tbody role="rowgroup">
        ${rows.map(
          (row) => html`<tr role="row" key=${rowKey(row)}>
            ${columns.map((each) => html`<td role="cell" key=${each.name} class=${classOf(each)} data-label=${each.label}>${each.show(row)}</td>`)}
          </tr>`,
        )}
      </tbody>
    </table>
  </div>`;
}

const classOf = ({ name, isNamed, isWide }) => [`in-${name}`, isNamed && "is-named", isWide && "is-wide"].filter(Boolean).join(" ");
