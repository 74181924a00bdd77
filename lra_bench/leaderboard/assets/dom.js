"use strict";

// Making elements, and writing numbers. Text only ever goes in as text.

const data = JSON.parse(document.getElementById("data").textContent);

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  fill(element, properties, children);
  return element;
}

function draw(tag, properties = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  fill(element, properties, children);
  return element;
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== ""));
}

function byId(id) {
  return document.getElementById(id);
}

function count(number) {
  return number === null ? "" : Math.round(number).toLocaleString("en-US");
}

function plural(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

function duration(seconds) {
  if (seconds === null) return "";
  const whole = Math.round(seconds);
  const two = (number) => String(number).padStart(2, "0");
  if (whole < 60) return `${whole}s`;
  if (whole < 3600) return `${Math.floor(whole / 60)}m ${two(whole % 60)}s`;
  return `${Math.floor(whole / 3600)}h ${two(Math.floor((whole % 3600) / 60))}m`;
}

// A value of a metric: a share in percent, anything else as it is.
function shown(value, task) {
  if (value === null) return "";
  return task.share ? (100 * value).toFixed(2) : value.toFixed(4);
}

const tip = byId("tip");

// A text beside what the pointer or the focus is on; Escape hides it.
function explain(element, text) {
  const show = () => {
    tip.textContent = text;
    tip.hidden = false;
    const at = element.getBoundingClientRect();
    const left = Math.min(at.left, window.innerWidth - tip.offsetWidth - 8);
    const below = at.bottom + 8;
    const fits = below + tip.offsetHeight < window.innerHeight;
    tip.style.left = `${Math.max(8, left)}px`;
    tip.style.top = `${fits ? below : at.top - tip.offsetHeight - 8}px`;
  };
  const hide = () => {
    tip.hidden = true;
  };
  element.addEventListener("pointerenter", show);
  element.addEventListener("focus", show);
  element.addEventListener("pointerleave", hide);
  element.addEventListener("blur", hide);
  return element;
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") tip.hidden = true;
});

// A table whose columns sort: each column has a name, a cell of a row, and a value to sort by.
function sortable(caption, columns, rows, first) {
  const body = make("tbody");
  const heads = columns.map((column, index) => {
    const button = make("button", { type: "button", onclick: () => sort(index) }, column.name);
    const long = column.name.length > 16 ? "long" : null;
    return make("th", { scope: "col", "aria-sort": "none", class: long }, button);
  });
  let sorted = null;
  const lines = rows.map((row) => {
    const cells = columns.map((column, index) =>
      make(index ? "td" : "th", { scope: index ? null : "row" }, column.cell(row)),
    );
    return { row, line: make("tr", {}, cells) };
  });
  function sort(index, downwards) {
    const column = columns[index];
    const other = sorted && sorted.index === index ? !sorted.downwards : (column.downwards ?? true);
    sorted = { index, downwards: downwards ?? other };
    const sign = sorted.downwards ? -1 : 1;
    lines.sort((a, b) => {
      const [x, y] = [column.value(a.row), column.value(b.row)];
      // What is missing stays at the end.
      if (x === null || y === null) return (x === null) - (y === null);
      return sign * (typeof x === "string" ? x.localeCompare(y, "en") : x - y);
    });
    heads.forEach((head, at) =>
      head.setAttribute(
        "aria-sort",
        at !== index ? "none" : sorted.downwards ? "descending" : "ascending",
      ),
    );
    body.replaceChildren(...lines.map(({ line }) => line));
  }
  const table = make(
    "table",
    {},
    make("caption", {}, caption),
    make("thead", {}, make("tr", {}, heads)),
    body,
  );
  sort(first.index, first.downwards);
  return make(
    "div",
    { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    table,
  );
}
