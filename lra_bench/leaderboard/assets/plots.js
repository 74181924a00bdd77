// Pictures: accuracy against cost, and learning curves. Colors come from the style sheet.

const COLORS = 8;

function ticksOf(low, high, number) {
  const step = 10 ** Math.floor(Math.log10((high - low) / number));
  const wide = [1, 2, 5, 10].map((factor) => factor * step);
  const chosen = wide.find((width) => (high - low) / width <= number) ?? wide[3];
  const found = [];
  for (let at = Math.ceil(low / chosen) * chosen; at <= high + chosen / 1e6; at += chosen) {
    found.push(at);
  }
  return found;
}

function logTicksOf(low, high) {
  const found = [];
  for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += 1) {
    for (const factor of [1, 2, 5]) {
      const at = factor * 10 ** power;
      if (at >= low && at <= high) found.push(at);
    }
  }
  return found;
}

// Round times, as people say them.
function timeTicksOf(low, high) {
  const minute = 60;
  const hour = 3600;
  const round = [
    1,
    2,
    5,
    10,
    20,
    30,
    minute,
    2 * minute,
    5 * minute,
    10 * minute,
    20 * minute,
    30 * minute,
  ];
  for (const hours of [1, 2, 5, 10, 24, 48, 120, 240, 480, 1000]) round.push(hours * hour);
  const found = round.filter((at) => at >= low && at <= high);
  return found.length > 8 ? found.filter((_, index) => index % 2) : found;
}

function axes(frame, across, up, labels) {
  const parts = [];
  for (const at of across.ticks) {
    parts.push(
      draw("line", {
        class: "grid",
        x1: across.of(at),
        x2: across.of(at),
        y1: frame.top,
        y2: frame.bottom,
      }),
    );
    parts.push(
      draw(
        "text",
        { x: across.of(at), y: frame.bottom + 22, "text-anchor": "middle" },
        across.text(at),
      ),
    );
  }
  for (const at of up.ticks) {
    parts.push(
      draw("line", {
        class: "grid",
        x1: frame.left,
        x2: frame.right,
        y1: up.of(at),
        y2: up.of(at),
      }),
    );
    parts.push(
      draw("text", { x: frame.left - 8, y: up.of(at) + 4, "text-anchor": "end" }, up.text(at)),
    );
  }
  parts.push(
    draw(
      "text",
      { x: (frame.left + frame.right) / 2, y: frame.bottom + 46, "text-anchor": "middle" },
      labels[0],
    ),
  );
  parts.push(draw("text", { x: frame.left, y: frame.top - 12 }, labels[1]));
  return parts;
}

function linear(low, high, from, to) {
  return (value) => from + ((value - low) / (high - low || 1)) * (to - from);
}

const COSTS = {
  seconds: {
    name: "training time",
    text: roughly,
    ticks: timeTicksOf,
    values: (cell) => cell.seconds,
  },
  total: {
    name: "training time with pretraining",
    text: roughly,
    ticks: timeTicksOf,
    values: (cell) => cell.total_seconds,
    optional: true,
  },
  memory: {
    name: "peak memory [MB]",
    text: (at) => count(at / 1e6),
    values: (cell) => cell.memory,
  },
  parameters: { name: "parameters", text: count, values: (cell) => cell.parameters },
  rate: { name: "training tokens a second", text: count, values: (cell) => cell.rate },
};

function roughly(seconds) {
  return duration(seconds).replace(/ 00[sm]$/, "");
}

// Every model of a task as a bubble: cost to the right, the result upwards, memory as its size.
function scatter(task, cells, cost, showRuns) {
  const narrow = window.innerWidth < 740;
  const [width, height] = narrow ? [700, 620] : [1100, 430];
  const frame = { left: 72, right: width - 24, top: 34, bottom: height - 62 };
  const kind = COSTS[cost];
  const known = cells.filter((cell) => cell.mean !== null && kind.values(cell) > 0);
  if (!known.length) return make("p", { class: "head hint" }, "No run tells this cost.");
  const costs = known.map(kind.values);
  const [cheap, dear] = [Math.min(...costs) / 1.35, Math.max(...costs) * 1.6];
  const ends = known.flatMap((cell) => [
    cell.low ?? cell.mean - (cell.error ?? 0),
    cell.high ?? cell.mean + (cell.error ?? 0),
  ]);
  const spread = Math.max(...ends) - Math.min(...ends) || 0.01;
  // The baseline is drawn where it does not press everything else together.
  const near = task.baseline !== null && Math.min(...ends) - task.baseline < 0.6 * spread;
  if (near) ends.push(task.baseline);
  const room = spread * 0.12;
  const [low, high] = [Math.min(...ends) - room, Math.max(...ends) + room];
  const x = linear(Math.log(cheap), Math.log(dear), frame.left, frame.right);
  const y = linear(low, high, frame.bottom, frame.top);
  let ticks = (kind.ticks ?? logTicksOf)(cheap, dear);
  if (ticks.length < 2) ticks = ticksOf(cheap, dear, 4).filter((at) => at > 0);
  const parts = axes(
    frame,
    { ticks, of: (at) => x(Math.log(at)), text: kind.text },
    {
      ticks: ticksOf(low, high, 6),
      of: y,
      text: (at) => (task.share ? `${+(100 * at).toFixed(1)}` : `${+at.toFixed(3)}`),
    },
    [`${kind.name} (logarithmic)`, `${task.metric}, ${task.title}`],
  );
  if (near) {
    const at = y(task.baseline);
    parts.push(draw("line", { class: "chance", x1: frame.left, x2: frame.right, y1: at, y2: at }));
    parts.push(
      draw(
        "text",
        { x: frame.right, y: at - 7, "text-anchor": "end" },
        "always the most frequent class",
      ),
    );
  }
  const most = Math.max(...known.map((cell) => cell.memory ?? 0)) || 1;
  const order = [...known].sort((a, b) => (b.memory ?? 0) - (a.memory ?? 0));
  const circle = (cell) => ({
    x: x(Math.log(kind.values(cell))),
    y: y(cell.mean),
    r: 6 + 18 * Math.sqrt((cell.memory ?? 0) / most),
  });
  const circles = known.map(circle);
  const names = [];
  const taken = [];
  for (const cell of order) {
    const color = `k${data.families.length ? Math.max(0, data.families.indexOf(cell.family)) % COLORS : cell.color % COLORS}`;
    const { x: cx, y: cy, r: radius } = circle(cell);
    const margin = cell.low === null ? cell.error : null;
    const [from, to] =
      margin === null ? [cell.low, cell.high] : [cell.mean - margin, cell.mean + margin];
    if (from !== null)
      parts.push(
        draw("line", { class: `whisker ${color}`, x1: cx, x2: cx, y1: y(from), y2: y(to) }),
      );
    const text = `${cell.model}: ${task.metric} ${resultOf(cell, task)}, ${kind.name} ${kind.text(kind.values(cell))}`;
    const dot = draw("circle", {
      class: `dot ${color}`,
      cx,
      cy,
      r: radius,
      tabindex: 0,
      role: "button",
      "aria-label": text,
      onclick: () => showRuns(cell),
      onkeydown: (event) => {
        if (event.key === "Enter" || event.key === " ") {
          event.preventDefault();
          showRuns(cell);
        }
      },
    });
    parts.push(
      explain(
        dot,
        `${text}\nmemory ${count((cell.memory ?? 0) / 1e6)} MB\nclick for the runs behind it`,
      ),
    );
    // A name goes beside, above or below its bubble: where no other name is, and few bubbles.
    const size = narrow ? 11 : 7.2;
    const wide = cell.model.length * size;
    const places = [
      { x: cx + radius + 6, y: cy + 4, anchor: "start", from: cx + radius + 6 },
      { x: cx - radius - 6, y: cy + 4, anchor: "end", from: cx - radius - 6 - wide },
      { x: cx, y: cy - radius - 8, anchor: "middle", from: cx - wide / 2 },
      { x: cx, y: cy + radius + 16, anchor: "middle", from: cx - wide / 2 },
    ];
    const covers = (place, at) =>
      at.y - at.r < place.y + 2 &&
      at.y + at.r > place.y - 12 &&
      at.x - at.r < place.from + wide &&
      at.x + at.r > place.from;
    const fits = (place) =>
      place.from > frame.left &&
      place.from + wide < width &&
      !taken.some(
        (box) =>
          Math.abs(box.y - place.y) < 17 && place.from < box.to && place.from + wide > box.from,
      );
    const hidden = (place) => circles.filter((at) => covers(place, at)).length;
    const free = places.filter(fits).sort((a, b) => hidden(a) - hidden(b))[0];
    if (free) {
      taken.push({ y: free.y, from: free.from, to: free.from + wide });
      names.push(
        draw(
          "text",
          { class: "name", x: free.x, y: free.y, "text-anchor": free.anchor },
          cell.model,
        ),
      );
    }
  }
  parts.push(...names);
  return draw(
    "svg",
    {
      class: "plot",
      viewBox: `0 0 ${width} ${height}`,
      role: "group",
      "aria-label": `${task.metric} of ${plural(known.length, "model")} on ${task.title} against ${kind.name}; the same numbers are in the tables`,
    },
    parts,
  );
}

// The metric on validation after each evaluation, a line a seed.
function curves(cell, task) {
  const lines = cell.curves.filter((curve) => curve.values.length > 1);
  if (!lines.length) return make("p", { class: "hint" }, "No learning curve was kept.");
  const [width, height] = window.innerWidth < 740 ? [520, 340] : [760, 300];
  const frame = { left: 64, right: width - 34, top: 30, bottom: height - 56 };
  const steps = lines.flatMap((curve) => curve.steps);
  const values = lines.flatMap((curve) => curve.values);
  const room = (Math.max(...values) - Math.min(...values)) * 0.08 || 0.01;
  const [low, high] = [Math.min(...values) - room, Math.max(...values) + room];
  const x = linear(Math.min(...steps), Math.max(...steps), frame.left, frame.right);
  const y = linear(low, high, frame.bottom, frame.top);
  const parts = axes(
    frame,
    { ticks: ticksOf(Math.min(...steps), Math.max(...steps), 6), of: x, text: count },
    {
      ticks: ticksOf(low, high, 5),
      of: y,
      text: (at) => (task.share ? `${+(100 * at).toFixed(2)}` : `${+at.toFixed(3)}`),
    },
    ["updates", `${task.metric} on validation`],
  );
  lines.forEach((curve, index) => {
    const points = curve.values.map(
      (value, at) => `${x(curve.steps[at]).toFixed(1)},${y(value).toFixed(1)}`,
    );
    const line = draw("polyline", { class: `curve k${index % COLORS}`, points: points.join(" ") });
    line.append(draw("title", {}, `seed ${curve.seed}`));
    parts.push(line);
  });
  return draw(
    "svg",
    {
      class: "plot",
      viewBox: `0 0 ${width} ${height}`,
      role: "img",
      "aria-label": `Learning curves of ${plural(lines.length, "seed")}: ${task.metric} on validation from ${shown(lines[0].values[0], task)} to ${shown(lines[0].values.at(-1), task)}`,
    },
    parts,
  );
}
