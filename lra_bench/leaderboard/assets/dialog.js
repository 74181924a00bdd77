// The runs behind a number.

function showRuns(cell) {
  tip.hidden = true;
  const task = settingNow().tasks[cell.task];
  const dialog = byId("details");
  const fact = (name, text) =>
    text ? [make("div", {}, make("dt", {}, name), make("dd", {}, text))] : [];
  const done = make(
    "button",
    { type: "button", class: "quiet", onclick: () => dialog.close() },
    "Close",
  );
  const runs = make(
    "table",
    {},
    make("caption", {}, "The runs"),
    make(
      "thead",
      {},
      make(
        "tr",
        {},
        ["seed", "status", "test", "validation", "time", "record"].map((name) =>
          make("th", { scope: "col" }, name),
        ),
      ),
    ),
    make(
      "tbody",
      {},
      cell.runs.map((run) =>
        make(
          "tr",
          {},
          make("th", { scope: "row" }, String(run.seed)),
          make(
            "td",
            { class: run.status === "completed" ? null : "bad", title: run.error },
            run.status,
          ),
          make("td", {}, shown(run.test, task)),
          make("td", {}, shown(run.validation, task)),
          make("td", {}, duration(run.seconds)),
          make("td", {}, make("a", { href: run.href, title: run.file }, run.file.split("/").pop())),
        ),
      ),
    ),
  );
  const commands = [...new Set(cell.runs.map((run) => run.command).filter(Boolean))].slice(0, 12);
  const hidden = cell.number - cell.runs.length;
  dialog.replaceChildren(
    make(
      "div",
      { class: "bar" },
      make(
        "h2",
        { id: "details-title" },
        `${cell.model} on ${task.title}, setting ${settingNow().name}`,
      ),
      done,
    ),
    make(
      "div",
      { class: "body" },
      make(
        "dl",
        { class: "facts" },
        fact(`${task.metric} on test`, resultOf(cell, task)),
        fact(
          `95% interval over ${isShared(cell) ? "pretrainings" : "seeds"}`,
          intervalOf(cell, task),
        ),
        fact(
          "sampling error of the test split",
          cell.error === null ? "" : shown(cell.error, task),
        ),
        fact("seeds", seedsOf(cell)),
        fact("training time", duration(cell.seconds)),
        fact("with pretraining", cell.total_seconds ? duration(cell.total_seconds) : ""),
        fact("updates with pretraining", cell.total_steps ? count(cell.total_steps) : ""),
        fact("tokens a second", count(cell.rate)),
        fact("peak memory", cell.memory === null ? "" : `${count(cell.memory / 1e6)} MB`),
        fact("parameters", count(cell.parameters)),
        fact("hardware", cell.devices),
        fact("commit", cell.commits),
        fact("data", task.data),
      ),
      cell.remark ? make("p", { class: "flag" }, `† ${cell.remark}.`) : "",
      make("h3", {}, "Learning curves"),
      curves(cell, task),
      make("h3", {}, "Runs"),
      make("div", { class: "scroll" }, runs),
      hidden ? make("p", { class: "hint" }, `${count(hidden)} more are in leaderboard.json.`) : "",
      make("h3", {}, commands.length > 1 ? "Commands that repeat them" : "Command that repeats it"),
      commands.map((command) =>
        make("p", { class: "command" }, make("code", {}, command), copying(command)),
      ),
    ),
  );
  dialog.showModal();
  done.focus();
}

function copying(text) {
  const button = make(
    "button",
    {
      type: "button",
      class: "quiet",
      "aria-label": `Copy ${text}`,
      onclick: async () => {
        try {
          await navigator.clipboard.writeText(text);
          button.textContent = "Copied";
        } catch {
          button.textContent = "Select it to copy";
        }
      },
    },
    "Copy",
  );
  return button;
}
