"use strict";

// The number that a cell's text starts with, or null: "92.00 ± 2.00", "1,234", "−0.5 †", "3 of 4". The strongest
// baseline, which the others of its column are compared with, differs from itself by nothing.
function numberOf(text) {
  const plain = text.trim().replace(/(\d),(?=\d{3})/g, "$1").replace(/^[−–]/, "-");
  if (plain === "baseline") return 0;
  const found = plain.match(/^[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:e[+-]?\d+)?/i);
  return found ? Number(found[0]) : null;
}

const words = new Intl.Collator("en", { numeric: true, sensitivity: "base" });

// Negative where the first text stands before the second. direction: 1 ascending, -1 descending; a blank, and in a
// column of numbers whatever is none, stands last in both.
function compareTexts(first, second, isNumber, direction) {
  const keys = [first, second].map((text) => (isNumber ? numberOf(text) : text.trim() || null));
  const blank = (keys[0] === null) - (keys[1] === null);
  if (blank || keys[0] === null) return blank;
  return direction * (isNumber ? keys[0] - keys[1] : words.compare(keys[0], keys[1]));
}

// What a click on a header does: numbers start with the largest, words with the first; the third click undoes it.
function nextOrder(current, isNumber) {
  const cycle = isNumber ? ["none", "descending", "ascending"] : ["none", "ascending", "descending"];
  return cycle[(cycle.indexOf(current) + 1) % cycle.length];
}

function sortBy(table, header, original) {
  const isNumber = header.classList.contains("number");
  const order = nextOrder(header.getAttribute("aria-sort"), isNumber);
  for (const other of header.parentElement.cells) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", order);
  const rows = [...original];
  const text = (row) => row.cells[header.cellIndex].textContent;
  const direction = order === "ascending" ? 1 : -1;
  if (order !== "none") rows.sort((a, b) => compareTexts(text(a), text(b), isNumber, direction));
  table.tBodies[0].append(...rows);
}

function sortTables() {
  for (const table of document.querySelectorAll("table.sortable")) {
    const original = [...table.tBodies[0].rows];
    for (const header of table.tHead.rows[0].cells) {
      header.querySelector("button").addEventListener("click", () => sortBy(table, header, original));
    }
  }
}

// An element with these properties and children; texts are texts, whatever is in them.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name.startsWith("data-") || name === "role") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

if (typeof module !== "undefined") module.exports = { numberOf, compareTexts, nextOrder };
