// The tables: all tasks, one task with its costs, published numbers.

function overview() {
  const { tasks, averages } = settingNow();
  const cells = cellsNow();
  const groups = [
    ["", (task) => !task.diagnostic && !task.pretraining],
    ["Diagnostic tasks, which enter no average", (task) => task.diagnostic],
    ["Pretraining, which is no result on a task", (task) => task.pretraining],
  ];
  const parts = [make("h2", {}, `Setting ${settingNow().name}`)];
  for (const [heading, belongs] of groups) {
    const here = tasks
      .map((task, index) => ({ ...task, index }))
      .filter((task) => belongs(task) && cells.some((cell) => cell.task === task.index));
    if (!here.length) continue;
    const by = new Map();
    for (const cell of cells) {
      if (!belongs(tasks[cell.task])) continue;
      if (!by.has(cell.model))
        by.set(cell.model, { model: cell.model, family: cell.family, cells: {} });
      by.get(cell.model).cells[cell.task] = cell;
    }
    const columns = [
      {
        name: "model",
        downwards: false,
        cell: (row) => nameOf(row.model, row.family),
        value: (row) => row.model,
      },
    ];
    for (const task of here) {
      columns.push({
        name: task.title,
        downwards: task.higher,
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
    const fullest =
      here.reduce(
        (best, task, index) =>
          number(cells, task.index) > number(cells, here[best].index) ? index : best,
        0,
      ) + 1;
    const first = !heading && averages.length && !state.task ? last : fullest;
    parts.push(
      make(
        "div",
        { class: "card" },
        heading ? make("div", { class: "head" }, make("h3", {}, heading)) : "",
        sortable(
          `Results of setting ${settingNow().name} by model and task`,
          columns,
          [...by.values()],
          { index: first, downwards: columns[first].downwards ?? true },
        ),
      ),
    );
  }
  if (parts.length === 1) parts.push(make("p", { class: "hint" }, "Nothing fits these filters."));
  else
    parts.push(
      make("p", { class: "hint" }, `${settingNow().note} Click a number for the runs behind it.`),
    );
  return parts;
}

function number(cells, task) {
  return cells.filter((cell) => cell.task === task).length;
}

function averageOf(average) {
  if (!average || average.value === null) return "";
  const spread =
    average.std === null
      ? ""
      : make("span", { class: "spread" }, ` ± ${(100 * average.std).toFixed(2)}`);
  return make(
    "span",
    { class: `value${average.best ? " best" : ""}` },
    make("span", { class: "mean" }, (100 * average.value).toFixed(2)),
    spread,
  );
}

function costs() {
  const { tasks } = settingNow();
  const cells = cellsNow();
  const here = tasks
    .map((task, index) => index)
    .filter((index) => cells.some((cell) => cell.task === index && cell.mean !== null));
  if (!here.length) return [];
  if (!here.includes(state.plotted)) {
    state.plotted = here.reduce(
      (best, index) => (number(cells, index) > number(cells, best) ? index : best),
      here[0],
    );
  }
  // What no run tells is no choice.
  const kinds = Object.keys(COSTS).filter(
    (key) => !COSTS[key].optional || cells.some((cell) => COSTS[key].values(cell) > 0),
  );
  if (!kinds.includes(state.cost)) state.cost = kinds[0];
  const card = make("div", { class: "card" });
  const render = () =>
    card.replaceChildren(
      scatter(
        tasks[state.plotted],
        cells.filter((cell) => cell.task === state.plotted),
        state.cost,
        showRuns,
      ),
    );
  const choose = (name, options, value, set) => {
    const select = make(
      "select",
      {
        onchange: (event) => {
          set(event.target.value);
          render();
        },
      },
      options.map(([key, text]) => make("option", { value: key, selected: key === value }, text)),
    );
    return make("label", {}, `${name} `, select);
  };
  render();
  return [
    make("h2", {}, "Accuracy against cost"),
    make(
      "div",
      { class: "choices" },
      choose(
        "Task",
        here.map((index) => [String(index), tasks[index].title]),
        String(state.plotted),
        (value) => {
          state.plotted = Number(value);
        },
      ),
      choose(
        "Cost",
        kinds.map((key) => [key, COSTS[key].name]),
        state.cost,
        (value) => {
          state.cost = value;
        },
      ),
    ),
    card,
    make(
      "p",
      { class: "hint" },
      "The area of a bubble is peak memory. A line is the 95% interval over seeds; of one seed, one standard error of sampling the test split. Costs compare on one kind of hardware.",
    ),
  ];
}

const COUNTS = [
  ["failed", "failed"],
  ["diverged", "diverged"],
  ["at baseline", "at_baseline"],
];

function taskTables() {
  const cells = cellsNow();
  const parts = [make("h2", {}, "By task, with what it cost")];
  settingNow().tasks.forEach((task, index) => {
    const here = cells.filter((cell) => cell.task === index);
    if (!here.length) return;
    const numeric = (name, key, text, downwards = false) => ({
      name,
      downwards,
      cell: (cell) => text(cell[key] ?? null),
      value: (cell) => cell[key] ?? null,
    });
    const columns = [
      {
        name: "model",
        downwards: false,
        cell: (cell) => nameOf(cell.model, cell.family),
        value: (cell) => cell.model,
      },
      {
        name: task.metric,
        downwards: task.higher,
        cell: (cell) => valueOf(cell, task, false),
        value: (cell) => cell.mean,
      },
      { name: "95% interval", cell: (cell) => intervalOf(cell, task), value: (cell) => cell.low },
      {
        name: "seeds",
        downwards: true,
        cell: (cell) =>
          isShared(cell)
            ? `${count(cell.completed)} (${plural(cell.pretrainings, "pretraining")})`
            : count(cell.completed),
        value: (cell) => cell.completed,
      },
      ...COUNTS.map(([name, key]) => ({
        name,
        cell: (cell) => (cell[key] ? make("span", { class: "bad" }, count(cell[key])) : "0"),
        value: (cell) => cell[key],
      })),
      numeric("training time", "seconds", duration),
      ...(here.some((cell) => cell.total_steps)
        ? [
            numeric("pretrainings", "pretrainings", count, true),
            numeric("pretraining time", "pretraining_seconds", duration),
            numeric("total updates", "total_steps", count),
            numeric("total time", "total_seconds", duration),
          ]
        : []),
      numeric("tokens/s", "rate", count, true),
      {
        name: "memory [MB]",
        downwards: false,
        cell: (cell) => (cell.memory === null ? "" : count(cell.memory / 1e6)),
        value: (cell) => cell.memory,
      },
      numeric("parameters", "parameters", count),
      numeric("passes", "passes", count),
    ];
    parts.push(
      make(
        "div",
        { class: "card" },
        make("div", { class: "head" }, make("h3", {}, task.title)),
        sortable(`${task.title}, setting ${settingNow().name}`, columns, here, {
          index: 1,
          downwards: task.higher,
        }),
        make(
          "p",
          { class: "foot" },
          task.notes.map((note) => [note.strong ? make("strong", {}, note.text) : note.text, " "]),
        ),
      ),
    );
  });
  return parts.length === 1 ? [] : parts;
}

function asNumber(text) {
  const number = parseFloat(text.replaceAll(",", ""));
  return Number.isNaN(number) ? null : number;
}

// The seconds of what `duration` has written.
function asSeconds(text) {
  const parts = [...text.matchAll(/(\d+)([hms])/g)];
  const units = { h: 3600, m: 60, s: 1 };
  return parts.length ? parts.reduce((sum, [, count, unit]) => sum + count * units[unit], 0) : null;
}

function equalCostTables() {
  const tables = data.equal_cost ?? [];
  if (!tables.length) return [];
  const cards = tables.map((table) => {
    const columns = table.columns.map((name, index) => {
      const read = name.endsWith("time") ? asSeconds : asNumber;
      return {
        name,
        downwards: index > 1,
        cell: (row) => row[index],
        value: (row) => (index > 1 ? read(row[index]) : row[index]),
      };
    });
    return make(
      "div",
      { class: "card" },
      make("div", { class: "head" }, make("h3", {}, `Setting ${table.name}`)),
      sortable(`At equal total cost, setting ${table.name}`, columns, table.rows, {
        index: 1,
        downwards: false,
      }),
      make("p", { class: "foot" }, table.notes.join(" ")),
      table.items.length
        ? make(
            "ol",
            { class: "sources" },
            table.items.map((item) => make("li", {}, item)),
          )
        : "",
    );
  });
  return [
    make("h2", {}, "At equal total cost"),
    ...cards,
    make("p", { class: "hint" }, data.equal_cost_note),
  ];
}

function publishedTables() {
  if (!data.published.length) return [];
  const protocol = data.published[state.protocol];
  const columns = protocol.columns.map((name, index) => ({
    name,
    downwards: index > 0,
    cell: (row) =>
      index === 0 && row.at(-1) === "ours" ? make("span", { class: "ours" }, row[0]) : row[index],
    value: (row) => (index ? asNumber(row[index]) : row[index]),
  }));
  const select = make(
    "select",
    {
      id: "protocol",
      onchange: (event) => {
        state.protocol = Number(event.target.value);
        byId("published").replaceChildren(...publishedTables());
        byId("protocol").focus();
      },
    },
    data.published.map((one, index) =>
      make("option", { value: index, selected: index === state.protocol }, one.name),
    ),
  );
  // Sorted by the average, or else the task, of which there are most numbers.
  const filled = (index) => protocol.rows.filter((row) => asNumber(row[index]) !== null).length;
  const averages = protocol.columns
    .map((name, index) => index)
    .filter((index) => protocol.columns[index].startsWith("avg"));
  const among = averages.length ? averages : [1];
  const fullest = among.reduce(
    (best, index) => (filled(index) > filled(best) ? index : best),
    among[0],
  );
  return [
    make("h2", {}, "Published numbers"),
    make("div", { class: "choices" }, make("label", {}, "Protocol ", select)),
    make(
      "div",
      { class: "card" },
      make("p", { class: "head" }, protocol.notes.join(" ")),
      sortable(`Published numbers under ${protocol.name}`, columns, protocol.rows, {
        index: fullest,
        downwards: true,
      }),
      make(
        "details",
        {},
        make(
          "summary",
          {},
          `${plural(protocol.items.length, "source")}, and what to know about each`,
        ),
        make(
          "ol",
          { class: "sources" },
          protocol.items.map((item) => make("li", {}, item)),
        ),
      ),
    ),
    make("p", { class: "hint" }, data.published_note),
  ];
}
