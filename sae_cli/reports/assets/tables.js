"use strict";
// Tables that are sorted by a click on a column's name.

function makeSortable(table) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = element("button", { type: "button" }, head.textContent);
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const falling = head.getAttribute("aria-sort") !== "descending";
      heads.forEach((each) => each.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      sortRows(table.tBodies[0], column, falling);
    });
  });
}

function sortRows(body, column, falling) {
  const rows = [...body.rows].map((row) => ({ row, value: orderOf(row.cells[column]) }));
  rows.sort((a, b) => compared(a.value, b.value, falling));
  body.append(...rows.map(({ row }) => row));
}

// A number, a word, or null where there is none.
function orderOf(cell) {
  if (!cell || cell.textContent === "") return null;
  const order = cell.dataset.order;
  return order === undefined ? cell.textContent : Number(order);
}

// What is missing comes last either way.
function compared(a, b, falling) {
  if (a === null || b === null) return (a === null) - (b === null);
  const rising = typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b));
  return falling ? -rising : rising;
}

for (const table of document.querySelectorAll("table.sortable")) makeSortable(table);
