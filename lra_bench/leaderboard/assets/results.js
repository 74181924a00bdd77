// What the choices leave over, and one result as a button that opens what is behind it.

const state = {
  setting: 0,
  task: "",
  family: "",
  model: "",
  cost: "seconds",
  plotted: null,
  protocol: 0,
};

// What many runs share is in the data once.
function unpack(cell) {
  const { folder, command, steps } = cell;
  cell.runs = cell.runs.map(([seed, status, error, test, validation, seconds, name, own]) => {
    const file = folder && !name.includes("/") ? `${folder}/${name}` : name;
    const href = file.split("/").map(encodeURIComponent).join("/");
    return {
      seed,
      status,
      error,
      test,
      validation,
      seconds,
      file,
      href,
      command: own ?? `${command}seed=${seed}`,
    };
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
  return settingNow().cells.filter(
    (cell) =>
      (!state.family || cell.family === state.family) &&
      (!part || cell.model.toLowerCase().includes(part)) &&
      (!state.task || settingNow().tasks[cell.task].title === state.task),
  );
}

function resultOf(cell, task) {
  if (cell.mean === null) return "no result";
  return shown(cell.mean, task) + (cell.std === null ? "" : ` ± ${shown(cell.std, task)}`);
}

// Whether several of its runs began from one pretraining.
function isShared(cell) {
  return cell.pretrainings > 0 && cell.pretrainings < cell.completed;
}

function seedsOf(cell) {
  const all = cell.completed === cell.number;
  const shared = isShared(cell) ? `, ${plural(cell.pretrainings, "pretraining")}` : "";
  const seeds = plural(cell.number, "seed");
  return `${all ? seeds : `${cell.completed} of ${seeds}`}${shared}`;
}

function intervalOf(cell, task) {
  if (cell.low === null && isShared(cell)) return "1 pretraining";
  if (cell.low === null) return cell.mean === null ? "" : "1 seed";
  return `${shown(cell.low, task)} to ${shown(cell.high, task)}`;
}

// A result as a button that opens what is behind it.
function valueOf(cell, task, withMeter) {
  const best = cell.best ? " best" : "";
  const shares = withMeter && cell.mean !== null ? meter(cell, task) : null;
  const spread =
    cell.std === null ? "" : make("span", { class: "spread" }, ` ± ${shown(cell.std, task)}`);
  const mean =
    cell.mean === null
      ? make("span", { class: "none" }, "none")
      : make("span", { class: "mean" }, shown(cell.mean, task));
  const flag = cell.remark ? make("span", { class: "flag" }, " †") : "";
  const usual =
    cell.number === settingNow().seeds && cell.completed === cell.number && !isShared(cell);
  const words = [
    usual ? "" : seedsOf(cell),
    cell.completed && cell.at_baseline === cell.completed ? "at baseline" : "",
  ];
  const aside = words.filter(Boolean).join(", ");
  const sub = aside ? make("span", { class: "sub" }, aside) : "";
  const button = make(
    "button",
    {
      type: "button",
      class: `value${best}`,
      onclick: () => showRuns(cell),
      "aria-label": `${cell.model} on ${task.title}: ${resultOf(cell, task)}, ${seedsOf(cell)}${cell.best ? ", better than all others beyond the noise" : ""}; show the runs`,
    },
    mean,
    spread,
    flag,
    withMeter ? sub : "",
    shares,
  );
  const lines = [`${task.title}: ${resultOf(cell, task)} (${seedsOf(cell)})`];
  if (cell.low !== null) lines.push(`95% interval ${intervalOf(cell, task)}`);
  if (cell.error !== null)
    lines.push(`sampling error of the test split ${shown(cell.error, task)}`);
  const values = cell.runs
    .filter((run) => run.test !== null)
    .slice(0, 8)
    .map((run) => `seed ${run.seed}: ${shown(run.test, task)}`);
  if (values.length) lines.push(values.join("\n"));
  if (cell.runs.length > 8) lines.push("...");
  return explain(button, lines.join("\n"));
}

// How far a result is on the way from the baseline to the best of its column.
function meter(cell, task) {
  const means = settingNow()
    .cells.filter((other) => other.task === cell.task && other.mean !== null)
    .map((other) => other.mean);
  const from = task.baseline ?? Math.min(...means);
  const to = task.higher ? Math.max(...means) : Math.min(...means);
  const share = to === from ? 1 : Math.min(1, Math.max(0.02, (cell.mean - from) / (to - from)));
  const bar = draw("rect", { width: 100 * share, height: 3 });
  return make(
    "span",
    { class: "meter", "aria-hidden": "true" },
    draw("svg", { viewBox: "0 0 100 3", preserveAspectRatio: "none" }, bar),
  );
}

function nameOf(model, family) {
  return family ? [model, make("span", { class: "family" }, ` ${family}`)] : [model];
}
