// The choices, and what they change.

function render() {
  const cells = data.settings.length ? cellsNow() : [];
  const sections = data.settings.length
    ? { overview: overview(), cost: costs(), tasks: taskTables() }
    : { overview: [make("p", { class: "card head" }, "No runs yet.")], cost: [], tasks: [] };
  for (const [id, parts] of Object.entries(sections)) byId(id).replaceChildren(...parts);
  const models = new Set(cells.map((cell) => cell.model)).size;
  byId("shown").textContent = `${plural(models, "model")}, ${plural(cells.length, "result")}`;
}

function options(id, entries, value) {
  byId(id).replaceChildren(
    ...entries.map(([key, text]) => make("option", { value: key, selected: key === value }, text)),
  );
}

function fillTasks() {
  const titles = data.settings.length
    ? settingNow().tasks.map((task) => [task.title, task.title])
    : [];
  if (!titles.some(([title]) => title === state.task)) state.task = "";
  options("task", [["", "all"], ...titles], state.task);
}

function start() {
  options(
    "setting",
    data.settings.map((setting, index) => [String(index), setting.name]),
    String(state.setting),
  );
  options("family", [["", "all"], ...data.families.map((name) => [name, name])], "");
  byId("family-label").hidden = !data.families.length;
  fillTasks();
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("filters").addEventListener("input", (event) => {
    const { id, value } = event.target;
    state[id] = id === "setting" ? Number(value) : value;
    if (id === "setting") {
      state.plotted = null;
      fillTasks();
    }
    render();
  });
  byId("details").addEventListener("click", (event) => {
    if (event.target === byId("details")) byId("details").close();
  });
  const theme = byId("theme");
  const themes = ["system", "light", "dark"];
  const say = () => {
    theme.textContent = `Theme: ${document.documentElement.dataset.theme ?? "system"}`;
  };
  theme.addEventListener("click", () => {
    const next =
      themes[(themes.indexOf(document.documentElement.dataset.theme ?? "system") + 1) % 3];
    if (next === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = next;
    say();
  });
  say();
  byId("summary").textContent = data.summary;
  byId("equal-cost").replaceChildren(...equalCostTables());
  byId("published").replaceChildren(...publishedTables());
  byId("legend").replaceChildren(
    make("h2", {}, "How to read this"),
    ...data.legend.map((text) => make("p", { class: "hint" }, text)),
  );
  let narrow = window.innerWidth < 740;
  window.addEventListener("resize", () => {
    if (narrow !== window.innerWidth < 740) {
      narrow = !narrow;
      render();
    }
  });
  render();
}

start();
