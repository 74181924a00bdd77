// What is shown: the choices, the tables, and the dialog with the runs behind a number.

const state = { setting: 0, task: "", family: "", model: "", cost: "seconds", plotted: null, protocol: 0 };

// What many runs share is in the data once.
function unpack(cell) {
  const { folder, command, steps } = cell;
  cell.runs = cell.runs.map(([seed, status, error, test, validation, seconds, name, own]) => {
    const file = folder && !name.includes("/") ? `${folder}/${name}` : name;
    const href = file.split("/").map(encodeURIComponent).join("/");
    return { seed, status, error, test, validation, seconds, file, href, command: own ?? `${command}seed=${seed}` };
  });
  cell.curves = cell.curves.map(([seed, values, own]) => ({ seed, values, steps: own ?? steps }));
}

for (const setting of data.settings) {
  const methods = [...new Set(setting.cells.map((cell) => cell.model))].sort();
  for (const cell of setting.cells) {
    cell.color = methods.indexOf(cell.model);
    unpack(cell);
  }
}

function settingNow() {
  return data.settings[state.setting];
}

function cellsNow() {
  const part = state.model.trim().toLowerCase();
  return settingNow().cells.filter((cell) => (
    (!state.family || cell.family === state.family)
    && (!part || cell.model.toLowerCase().includes(part))
    && (!state.task || settingNow().tasks[cell.task].title === state.task)
  ));
}

function resultOf(cell, task) {
  if (cell.mean === null) return "no result";
  return shown(cell.mean, task) + (cell.std === null ? "" : ` ± ${shown(cell.std, task)}`);
}

function seedsOf(cell) {
  const all = cell.completed === cell.number;
  return all ? plural(cell.number, "seed") : `${cell.completed} of ${plural(cell.number, "seed")}`;
}

function intervalOf(cell, task) {
  if (cell.low === null) return cell.mean === null ? "" : "1 seed";
  return `${shown(cell.low, task)} to ${shown(cell.high, task)}`;
}

// A result as a button that opens what is behind it.
function valueOf(cell, task, withMeter) {
  const best = cell.best ? " best" : "";
  const shares = withMeter && cell.mean !== null ? meter(cell, task) : null;
  const spread = cell.std === null ? "" : make("span", { class: "spread" }, ` ± ${shown(cell.std, task)}`);
  const mean = cell.mean === null ? make("span", { class: "none" }, "none") : make("span", { class: "mean" }, shown(cell.mean, task));
  const flag = cell.remark ? make("span", { class: "flag" }, " †") : "";
  const usual = cell.number === settingNow().seeds && cell.completed === cell.number;
  const words = [usual ? "" : seedsOf(cell), cell.completed && cell.at_baseline === cell.completed ? "at baseline" : ""];
  const aside = words.filter(Boolean).join(", ");
  const sub = aside ? make("span", { class: "sub" }, aside) : "";
  const button = make("button", {
    type: "button", class: `value${best}`, onclick: () => open(cell),
    "aria-label": `${cell.model} on ${task.title}: ${resultOf(cell, task)}, ${seedsOf(cell)}${cell.best ? ", better than all others beyond the noise" : ""}; show the runs`,
  }, mean, spread, flag, withMeter ? sub : "", shares);
  const lines = [`${task.title}: ${resultOf(cell, task)} (${seedsOf(cell)})`];
  if (cell.low !== null) lines.push(`95% interval ${intervalOf(cell, task)}`);
  if (cell.error !== null) lines.push(`sampling error of the test split ${shown(cell.error, task)}`);
  const values = cell.runs.filter((run) => run.test !== null).slice(0, 8).map((run) => `seed ${run.seed}: ${shown(run.test, task)}`);
  if (values.length) lines.push(values.join("\n"));
  if (cell.runs.length > 8) lines.push("...");
  return explain(button, lines.join("\n"));
}

// How far a result is on the way from the baseline to the best of its column.
function meter(cell, task) {
  const means = settingNow().cells.filter((other) => other.task === cell.task && other.mean !== null).map((other) => other.mean);
  const from = task.baseline ?? Math.min(...means);
  const to = task.higher ? Math.max(...means) : Math.min(...means);
  const share = to === from ? 1 : Math.min(1, Math.max(0.02, (cell.mean - from) / (to - from)));
  const bar = draw("rect", { width: 100 * share, height: 3 });
  return make("span", { class: "meter", "aria-hidden": "true" }, draw("svg", { viewBox: "0 0 100 3", preserveAspectRatio: "none" }, bar));
}

function nameOf(model, family) {
  return family ? [model, make("span", { class: "family" }, ` ${family}`)] : [model];
}

function overview() {
  const { tasks, averages } = settingNow();
  const cells = cellsNow();
  const groups = [["", (task) => !task.diagnostic], ["Diagnostic tasks, which enter no average", (task) => task.diagnostic]];
  const parts = [make("h2", {}, `Setting ${settingNow().name}`)];
  for (const [heading, belongs] of groups) {
    const here = tasks.map((task, index) => ({ ...task, index })).filter((task) => belongs(task) && cells.some((cell) => cell.task === task.index));
    if (!here.length) continue;
    const by = new Map();
    for (const cell of cells) {
      if (!belongs(tasks[cell.task])) continue;
      if (!by.has(cell.model)) by.set(cell.model, { model: cell.model, family: cell.family, cells: {} });
      by.get(cell.model).cells[cell.task] = cell;
    }
    const columns = [{ name: "model", downwards: false, cell: (row) => nameOf(row.model, row.family), value: (row) => row.model }];
    for (const task of here) {
      columns.push({
        name: task.title, downwards: task.higher,
        cell: (row) => (row.cells[task.index] ? valueOf(row.cells[task.index], task, true) : ""),
        value: (row) => row.cells[task.index]?.mean ?? null,
      });
    }
    for (const average of heading || state.task ? [] : averages) {
      columns.push({
        name: average.name,
        cell: (row) => averageOf(average.values[row.model]),
        value: (row) => average.values[row.model]?.value ?? null,
      });
    }
    const last = columns.length - 1;
    const fullest = here.reduce((best, task, index) => (number(cells, task.index) > number(cells, here[best].index) ? index : best), 0) + 1;
    const first = !heading && averages.length && !state.task ? last : fullest;
    parts.push(make(
      "div", { class: "card" }, heading ? make("div", { class: "head" }, make("h3", {}, heading)) : "",
      sortable(`Results of setting ${settingNow().name} by model and task`, columns, [...by.values()], { index: first, downwards: columns[first].downwards ?? true }),
    ));
  }
  if (parts.length === 1) parts.push(make("p", { class: "hint" }, "Nothing fits these filters."));
  else parts.push(make("p", { class: "hint" }, `${settingNow().note} Click a number for the runs behind it.`));
  return parts;
}

function number(cells, task) {
  return cells.filter((cell) => cell.task === task).length;
}

function averageOf(average) {
  if (!average || average.value === null) return "";
  const spread = average.std === null ? "" : make("span", { class: "spread" }, ` ± ${(100 * average.std).toFixed(2)}`);
  return make("span", { class: `value${average.best ? " best" : ""}` }, make("span", { class: "mean" }, (100 * average.value).toFixed(2)), spread);
}

function costs() {
  const { tasks } = settingNow();
  const cells = cellsNow();
  const here = tasks.map((task, index) => index).filter((index) => cells.some((cell) => cell.task === index && cell.mean !== null));
  if (!here.length) return [];
  if (!here.includes(state.plotted)) {
    state.plotted = here.reduce((best, index) => (number(cells, index) > number(cells, best) ? index : best), here[0]);
  }
  const card = make("div", { class: "card" });
  const render = () => card.replaceChildren(scatter(tasks[state.plotted], cells.filter((cell) => cell.task === state.plotted), state.cost, open));
  const choose = (name, options, value, set) => {
    const select = make("select", { onchange: (event) => { set(event.target.value); render(); } }, options.map(([key, text]) => make("option", { value: key, selected: key === value }, text)));
    return make("label", {}, `${name} `, select);
  };
  render();
  return [
    make("h2", {}, "Accuracy against cost"),
    make("div", { class: "choices" },
      choose("Task", here.map((index) => [String(index), tasks[index].title]), String(state.plotted), (value) => { state.plotted = Number(value); }),
      choose("Cost", Object.entries(COSTS).map(([key, kind]) => [key, kind.name]), state.cost, (value) => { state.cost = value; })),
    card,
    make("p", { class: "hint" }, "The area of a bubble is peak memory. A line is the 95% interval over seeds; of one seed, one standard error of sampling the test split. Costs compare on one kind of hardware."),
  ];
}

const COUNTS = [["failed", "failed"], ["diverged", "diverged"], ["at baseline", "at_baseline"]];

function taskTables() {
  const cells = cellsNow();
  const parts = [make("h2", {}, "By task, with what it cost")];
  settingNow().tasks.forEach((task, index) => {
    const here = cells.filter((cell) => cell.task === index);
    if (!here.length) return;
    const numeric = (name, key, text, downwards = false) => ({ name, downwards, cell: (cell) => text(cell[key]), value: (cell) => cell[key] });
    const columns = [
      { name: "model", downwards: false, cell: (cell) => nameOf(cell.model, cell.family), value: (cell) => cell.model },
      { name: task.metric, downwards: task.higher, cell: (cell) => valueOf(cell, task, false), value: (cell) => cell.mean },
      { name: "95% interval", cell: (cell) => intervalOf(cell, task), value: (cell) => cell.low },
      numeric("seeds", "completed", count, true),
      ...COUNTS.map(([name, key]) => ({ name, cell: (cell) => (cell[key] ? make("span", { class: "bad" }, count(cell[key])) : "0"), value: (cell) => cell[key] })),
      numeric("training time", "seconds", duration),
      numeric("tokens/s", "rate", count, true),
      { name: "memory [MB]", downwards: false, cell: (cell) => (cell.memory === null ? "" : count(cell.memory / 1e6)), value: (cell) => cell.memory },
      numeric("parameters", "parameters", count),
      numeric("passes", "passes", count),
    ];
    parts.push(make(
      "div", { class: "card" }, make("div", { class: "head" }, make("h3", {}, task.title)),
      sortable(`${task.title}, setting ${settingNow().name}`, columns, here, { index: 1, downwards: task.higher }),
      make("p", { class: "foot" }, task.notes.map((note) => [note.strong ? make("strong", {}, note.text) : note.text, " "])),
    ));
  });
  return parts.length === 1 ? [] : parts;
}

function publishedTables() {
  if (!data.published.length) return [];
  const protocol = data.published[state.protocol];
  const asNumber = (text) => (Number.isNaN(parseFloat(text)) ? null : parseFloat(text));
  const columns = protocol.columns.map((name, index) => ({
    name, downwards: index > 0,
    cell: (row) => (index === 0 && row.at(-1) === "ours" ? make("span", { class: "ours" }, row[0]) : row[index]),
    value: (row) => (index ? asNumber(row[index]) : row[index]),
  }));
  const select = make("select", {
    id: "protocol", onchange: (event) => { state.protocol = Number(event.target.value); byId("published").replaceChildren(...publishedTables()); byId("protocol").focus(); },
  }, data.published.map((one, index) => make("option", { value: index, selected: index === state.protocol }, one.name)));
  // Sorted by the average, or else the task, of which there are most numbers.
  const filled = (index) => protocol.rows.filter((row) => asNumber(row[index]) !== null).length;
  const averages = protocol.columns.map((name, index) => index).filter((index) => protocol.columns[index].startsWith("avg"));
  const among = averages.length ? averages : [1];
  const fullest = among.reduce((best, index) => (filled(index) > filled(best) ? index : best), among[0]);
  return [
    make("h2", {}, "Published numbers"),
    make("div", { class: "choices" }, make("label", {}, "Protocol ", select)),
    make(
      "div", { class: "card" },
      make("p", { class: "head" }, protocol.notes.join(" ")),
      sortable(`Published numbers under ${protocol.name}`, columns, protocol.rows, { index: fullest, downwards: true }),
      make("details", {}, make("summary", {}, `${plural(protocol.items.length, "source")}, and what to know about each`), make("ol", { class: "sources" }, protocol.items.map((item) => make("li", {}, item)))),
    ),
    make("p", { class: "hint" }, data.published_note),
  ];
}

function open(cell) {
  tip.hidden = true;
  const task = settingNow().tasks[cell.task];
  const dialog = byId("details");
  const fact = (name, text) => (text ? [make("div", {}, make("dt", {}, name), make("dd", {}, text))] : []);
  const done = make("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close");
  const runs = make("table", {},
    make("caption", {}, "The runs"),
    make("thead", {}, make("tr", {}, ["seed", "status", "test", "validation", "time", "record"].map((name) => make("th", { scope: "col" }, name)))),
    make("tbody", {}, cell.runs.map((run) => make("tr", {},
      make("th", { scope: "row" }, String(run.seed)),
      make("td", { class: run.status === "completed" ? null : "bad", title: run.error }, run.status),
      make("td", {}, shown(run.test, task)), make("td", {}, shown(run.validation, task)), make("td", {}, duration(run.seconds)),
      make("td", {}, make("a", { href: run.href, title: run.file }, run.file.split("/").pop()))))));
  const commands = [...new Set(cell.runs.map((run) => run.command).filter(Boolean))].slice(0, 12);
  const hidden = cell.number - cell.runs.length;
  dialog.replaceChildren(
    make("div", { class: "bar" }, make("h2", { id: "details-title" }, `${cell.model} on ${task.title}, setting ${settingNow().name}`), done),
    make("div", { class: "body" },
      make("dl", { class: "facts" },
        fact(`${task.metric} on test`, resultOf(cell, task)), fact("95% interval over seeds", intervalOf(cell, task)),
        fact("sampling error of the test split", cell.error === null ? "" : shown(cell.error, task)), fact("seeds", seedsOf(cell)),
        fact("training time", duration(cell.seconds)), fact("tokens a second", count(cell.rate)),
        fact("peak memory", cell.memory === null ? "" : `${count(cell.memory / 1e6)} MB`), fact("parameters", count(cell.parameters)),
        fact("hardware", cell.devices), fact("commit", cell.commits), fact("data", task.data)),
      cell.remark ? make("p", { class: "flag" }, `† ${cell.remark}.`) : "",
      make("h3", {}, "Learning curves"), curves(cell, task),
      make("h3", {}, "Runs"), make("div", { class: "scroll" }, runs),
      hidden ? make("p", { class: "hint" }, `${count(hidden)} more are in leaderboard.json.`) : "",
      make("h3", {}, commands.length > 1 ? "Commands that repeat them" : "Command that repeats it"),
      commands.map((command) => make("p", { class: "command" }, make("code", {}, command), copying(command)))),
  );
  dialog.showModal();
  done.focus();
}

function copying(text) {
  const button = make("button", {
    type: "button", class: "quiet", "aria-label": `Copy ${text}`,
    onclick: async () => {
      try { await navigator.clipboard.writeText(text); button.textContent = "Copied"; } catch { button.textContent = "Select it to copy"; }
    },
  }, "Copy");
  return button;
}

function render() {
  const cells = data.settings.length ? cellsNow() : [];
  const sections = data.settings.length ? { overview: overview(), cost: costs(), tasks: taskTables() } : { overview: [make("p", { class: "card head" }, "No runs yet.")], cost: [], tasks: [] };
  for (const [id, parts] of Object.entries(sections)) byId(id).replaceChildren(...parts);
  const models = new Set(cells.map((cell) => cell.model)).size;
  byId("shown").textContent = `${plural(models, "model")}, ${plural(cells.length, "result")}`;
}

function options(id, entries, value) {
  byId(id).replaceChildren(...entries.map(([key, text]) => make("option", { value: key, selected: key === value }, text)));
}

function fillTasks() {
  const titles = data.settings.length ? settingNow().tasks.map((task) => [task.title, task.title]) : [];
  if (!titles.some(([title]) => title === state.task)) state.task = "";
  options("task", [["", "all"], ...titles], state.task);
}

function start() {
  options("setting", data.settings.map((setting, index) => [String(index), setting.name]), String(state.setting));
  options("family", [["", "all"], ...data.families.map((name) => [name, name])], "");
  byId("family-label").hidden = !data.families.length;
  fillTasks();
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("input", (event) => {
    const { id, value } = event.target;
    state[id] = id === "setting" ? Number(value) : value;
    if (id === "setting") { state.plotted = null; fillTasks(); }
    render();
  });
  byId("details").addEventListener("click", (event) => { if (event.target === byId("details")) byId("details").close(); });
  const theme = byId("theme");
  const themes = ["system", "light", "dark"];
  const say = () => { theme.textContent = `Theme: ${document.documentElement.dataset.theme ?? "system"}`; };
  theme.addEventListener("click", () => {
    const next = themes[(themes.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % 3];
    if (next === "system") delete document.documentElement.dataset.theme; else document.documentElement.dataset.theme = next;
    say();
  });
  say();
  byId("summary").textContent = data.summary;
  byId("published").replaceChildren(...publishedTables());
  byId("legend").replaceChildren(make("h2", {}, "How to read this"), ...data.legend.map((text) => make("p", { class: "hint" }, text)));
  let narrow = window.innerWidth < 740;
  window.addEventListener("resize", () => {
    if (narrow !== window.innerWidth < 740) { narrow = !narrow; render(); }
  });
  render();
}

start();
