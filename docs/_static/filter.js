// Controls above every table of class `filterable`: a text, and a choice for each column of few different cells.
"use strict";

const FEW = 8;

function shown(cell) {
  const strong = cell.querySelector("strong");
  return (strong || cell).textContent.trim();
}

function control(kind, label) {
  const made = document.createElement(kind);
  made.setAttribute("aria-label", label);
  return made;
}

function addFilters(table) {
  const rows = [...table.tBodies[0].rows];
  const bar = document.createElement("div");
  bar.className = "filters";
  const text = control("input", "rows that contain");
  text.type = "search";
  text.placeholder = "Rows that contain …";
  bar.append(text);
  const choices = [];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    const values = [...new Set(rows.map((row) => shown(row.cells[column])))];
    if (values.length < 2 || values.length > FEW) return;
    const choice = control("select", head.textContent.trim());
    choice.append(new Option(`${head.textContent.trim()}: all`, ""), ...values.map((value) => new Option(value, value)));
    choices.push([column, choice]);
    bar.append(choice);
  });
  const count = document.createElement("span");
  count.setAttribute("role", "status");
  bar.append(count);
  function apply() {
    const words = text.value.trim().toLowerCase();
    let left = 0;
    for (const row of rows) {
      const fits = row.textContent.toLowerCase().includes(words);
      const chosen = choices.every(([column, choice]) => !choice.value || shown(row.cells[column]) === choice.value);
      row.hidden = !(fits && chosen);
      left += row.hidden ? 0 : 1;
    }
    count.textContent = `${left} of ${rows.length}`;
  }
  bar.addEventListener("input", apply);
  const place = table.closest(".table-wrapper") || table;
  place.before(bar);
  apply();
}

// Columns of words, in tables that notebooks printed, stand at the left; a table too wide for its column is set smaller.
function fit(table) {
  const rows = [...table.rows];
  const body = [...(table.tBodies[0]?.rows ?? [])];
  const columns = Math.max(...rows.map((row) => row.cells.length));
  for (let column = 0; column < columns; column++) {
    const words = body.some((row) => /[A-Za-z]{3}/.test(row.cells[column]?.textContent ?? ""));
    if (words) rows.forEach((row) => row.cells[column]?.classList.add("text"));
  }
  for (const size of ["dense", "denser"]) {
    if (table.offsetWidth > table.parentElement.clientWidth) table.classList.add(size);
  }
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.dataframe, table.docutils").forEach(fit);
  document.querySelectorAll("table.filterable").forEach(addFilters);
});
