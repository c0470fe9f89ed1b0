// The page of one run: a front of models, and the one that a preference and limits pick. All data are in the page.
const D = JSON.parse(document.getElementById("data").textContent);
const byId = Object.fromEntries(D.models.map((model) => [model.id, model]));
const $ = (id) => document.getElementById(id);
const state = {
  front: D.front,
  preference: D.objectives.map(() => 1 / D.objectives.length),
  limits: {},
  picked: null, // a model that the reader clicked; null: the recommended one
};

// ------------------------------------------------------------------------------------------------ small things

function element(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Digits behind the point, three that count, or of shares and objectives three in all. */
function digits(value, metric) {
  if (metric.endsWith("accuracy") || D.objectives.includes(metric)) return 3;
  return Math.min(6, Math.max(0, 2 - Math.floor(Math.log10(Math.abs(value) || 1))));
}

function shown(value, metric) {
  if (value === null || value === undefined) return "–";
  const places = digits(value, metric);
  return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
}

function withError(model, metric) {
  const [value, error] = [model.values[metric], model.errors[metric]];
  return shown(value, metric) + (error ? ` ± ${error.toFixed(digits(value, metric))}` : "");
}

// -------------------------------------------------------------------------------------------------- the choice

const members = () => D.models.filter((model) => model.fronts.includes(state.front));
const judged = (model) => (state.front === "posterior" ? model.posterior : model.objectives);

/** How far a model is outside of the limits: the sum of its excesses, each as a share of the limit. */
function excess(model) {
  return Object.entries(state.limits).reduce((sum, [key, bound]) => {
    const [metric, end] = key.split("|");
    const value = model.values[metric];
    if (value === null || value === undefined) return Infinity;
    const over = end === "max" ? value - bound : bound - value;
    return sum + (over > 0 ? over / Math.max(Math.abs(bound), 1e-9) : 0);
  }, 0);
}

/** Objectives of the front with the worst at 0 and the best at 1, as bambo.selection.scale has it. */
function scaled() {
  const Y = members().map(judged);
  const ends = D.objectives.map((_, k) => [Math.min(...Y.map((y) => y[k])), Math.max(...Y.map((y) => y[k]))]);
  return Y.map((y) => y.map((value, k) => (ends[k][1] > ends[k][0] ? (value - ends[k][0]) / (ends[k][1] - ends[k][0]) : 1)));
}

/** Of the models most like the preference by cosine, the one with the largest mean, as bambo.selection.select has it. */
function recommend() {
  const Y = scaled();
  const length = (v) => Math.max(Math.hypot(...v), 1e-12);
  const total = state.preference.reduce((a, b) => a + b, 0);
  const w = total > 0 ? state.preference : state.preference.map(() => 1);
  const rows = members()
    .map((model, row) => ({
      model, row,
      cosine: Number((Y[row].reduce((sum, value, k) => sum + value * w[k], 0) / length(Y[row]) / length(w)).toFixed(12)),
      mean: Y[row].reduce((a, b) => a + b, 0) / Y[row].length,
    }))
    .filter(({ model }) => excess(model) === 0);
  const nearest = rows.sort((a, b) => b.cosine - a.cosine || a.row - b.row).slice(0, D.nearest);
  return nearest.length ? nearest.reduce((best, each) => (each.mean > best.mean ? each : best)).model : null;
}

// ----------------------------------------------------------------------------------------------------- controls

function controls() {
  const needs = element("select", { id: "by-need" }, element("option", { value: "" }, "by preference and limits"));
  needs.setAttribute("aria-label", "choose by need");
  for (const [need, id] of Object.entries(D.needs)) needs.append(element("option", { value: id }, need));
  needs.addEventListener("change", () => pick(needs.value || null));
  $("needs").append(needs);
  $("needs").hidden = Object.keys(D.needs).length === 0;
  const box = $("preference");
  if (D.objectives.length === 2) {
    const slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: 0.5, id: "weight0" });
    slider.setAttribute("aria-label", `from all ${D.objectives[1]} to all ${D.objectives[0]}`);
    slider.addEventListener("input", () => {
      state.preference = [Number(slider.value), 1 - Number(slider.value)];
      state.picked = null;
      update();
    });
    box.append(element("div", { className: "row" }, D.objectives[1], slider, D.objectives[0]));
  } else {
    D.objectives.forEach((name, k) => {
      const slider = element("input", { type: "range", min: 0, max: 1, step: 0.05, value: 0.5, id: `weight${k}` });
      slider.addEventListener("input", () => {
        state.preference[k] = Number(slider.value);
        state.picked = null;
        update();
      });
      state.preference[k] = 0.5;
      box.append(element("label", { className: "row" }, `${name} `, slider));
    });
  }
  for (const { metric, end, step } of D.limits) {
    const input = element("input", { type: "number", step, id: `limit-${metric}-${end}`, placeholder: "none" });
    input.addEventListener("input", () => {
      if (input.value === "") delete state.limits[`${metric}|${end}`];
      else state.limits[`${metric}|${end}`] = Number(input.value);
      state.picked = null;
      update();
    });
    const word = end === "max" ? "at most" : "at least";
    $("limits").append(element("label", { className: "row" }, `${metric} ${word}`, input));
  }
  const words = { posterior: "front by the surrogate's mean (steadier)", observed: "front as measured" };
  for (const front of ["posterior", "observed"]) {
    const input = element("input", { type: "radio", name: "front", value: front, checked: front === state.front });
    input.addEventListener("change", () => {
      state.front = front;
      state.picked = null;
      update();
    });
    $("fronts").append(element("label", { className: "choice" }, input, words[front]));
  }
  for (const [id, metric] of [["x", D.axes[0]], ["y", D.axes[1]]]) {
    for (const name of D.metrics) $(id).append(element("option", { value: name, selected: name === metric }, name));
    $(id).addEventListener("change", draw);
  }
}

// ------------------------------------------------------------------------------------------------------- the chart

let view = null;

async function draw() {
  const [x, y] = [$("x").value, $("y").value];
  const rows = D.models
    .filter((model) => model.values[x] !== null && model.values[y] !== null)
    .map((model) => ({
      id: model.id, x: model.values[x], y: model.values[y], search: model.search, end: model.source || "",
      front: model.fronts.includes(state.front),
      about: describe(model), name: model.source || model.id, first: withError(model, x), second: withError(model, y),
      weights: Object.entries(model.weights).map(([name, value]) => `${name} ${value.toFixed(2)}`).join(", "),
    }));
  const middle = (Math.min(...rows.map((row) => row.x)) + Math.max(...rows.map((row) => row.x))) / 2;
  for (const row of rows) row.left = row.x < middle;
  const titles = $("chart").clientWidth < 500 ? { [x]: x, [y]: y } : D.titles;
  const position = {
    x: { field: "x", type: "quantitative", title: titles[x], scale: { zero: false } },
    y: { field: "y", type: "quantitative", title: titles[y], scale: { zero: false } },
  };
  const tooltip = [
    { field: "name", title: "model" }, { field: "search", title: "search" },
    { field: "first", title: x }, { field: "second", title: y }, { field: "weights", title: "weights" },
  ];
  const names = D.searches.map((search) => search.name);
  const spec = {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    description: `${y} against ${x} of all models`,
    width: "container", height: 520, background: "white",
    data: { name: "models", values: rows },
    layer: [
      {
        mark: { type: "point", filled: true, size: 75, cursor: "pointer" },
        encoding: {
          ...position, tooltip,
          color: { field: "search", type: "nominal", title: null, legend: null,
            scale: { domain: names, range: D.searches.map((search) => search.colour) } },
          shape: { field: "search", type: "nominal", legend: null,
            scale: { domain: names, range: D.searches.map((search) => search.shape) } },
          opacity: { condition: { test: "datum.front", value: 1 }, value: 0.28 },
          description: { field: "about" },
        },
      },
      {
        mark: { type: "text", aria: false, dy: -11, fontWeight: "bold", dx: { expr: "datum.left ? 8 : -8" },
          align: { expr: "datum.left ? 'left' : 'right'" } },
        encoding: { ...position, text: { field: "end" } },
      },
      {
        data: { name: "chosen", values: ringed() },
        mark: { type: "point", size: 330, strokeWidth: 2.5, stroke: "#000", filled: false, aria: false },
        encoding: { ...position, opacity: { condition: { test: "datum.shown", value: 1 }, value: 0 } },
      },
    ],
    config: { font: "system-ui, DejaVu Sans, sans-serif", axis: { labelFontSize: 12, titleFontSize: 13, gridColor: "#ededed" } },
  };
  const result = await vegaEmbed($("chart"), spec, { renderer: "svg", actions: false });
  view = result.view;
  view.addEventListener("click", (event, item) => item && item.datum && item.datum.id && pick(item.datum.id));
}

/** Where the ring is: at the model shown; out of sight if there is none. */
function ringed() {
  const model = current() || D.models[0];
  return [{ x: model.values[$("x").value], y: model.values[$("y").value], shown: Boolean(current()) }];
}

function ring() {
  if (view) view.data("chosen", ringed()).runAsync();
}

function describe(model) {
  const scores = D.raw.map((metric) => `${metric} ${shown(model.values[metric], metric)}`).join(", ");
  return `${model.source ? `source ${model.source}` : `model ${model.id}`} of ${model.search}: ${scores}`;
}

// ---------------------------------------------------------------------------------------------------- what is shown

const current = () => (state.picked ? byId[state.picked] : recommend());

function pick(id) {
  state.picked = id;
  update();
}

function update() {
  const model = current();
  if (!state.picked) $("by-need").value = "";
  card(model);
  table(model);
  ring();
  $("answers").replaceChildren();
  $("told").textContent = "";
  $("load").disabled = !model || !model.answers;
}

function card(model) {
  $("model").textContent = state.picked ? "The model that you picked" : "Recommended model";
  if (!model) {
    const nearest = members().sort((a, b) => excess(a) - excess(b))[0];
    const button = element("button", { type: "button" }, nearest ? nearest.source || nearest.id : "");
    button.addEventListener("click", () => pick(nearest.id));
    $("card").replaceChildren(
      element("p", {}, "No model of this front is within the limits."),
      ...(nearest ? [element("p", {}, "The nearest one is ", button, `: ${D.raw.map((m) => `${m} ${shown(nearest.values[m], m)}`).join(", ")}.`)] : []),
    );
    return;
  }
  const line = (name, of) => element("tr", {}, element("td", {}, name), ...D.raw.map((metric) => element("td", {}, withError(model, of + metric))));
  const head = element("tr", {}, element("th"), ...D.raw.map((metric) => element("th", { scope: "col" }, metric)));
  const scores = element("table", {}, head, line("mean", ""), ...D.benchmarks.map((name) => line(name, `${name}.`)));
  const objectives = D.objectives.map((name) => `${name} ${withError(model, name)}`).join(", ");
  const weights = Object.entries(model.weights).flatMap(([name, value]) => [
    element("span", {}, name),
    element("meter", { min: 0, max: 1, value, title: `${name}: ${value.toFixed(3)}` }),
    element("span", {}, value.toFixed(2)),
  ]);
  const copied = element("span", { className: "small", role: "status" });
  const copy = (text, label, id) => {
    const button = element("button", { type: "button", id }, label);
    button.addEventListener("click", async () => {
      await toClipboard(text);
      copied.textContent = " copied";
    });
    return button;
  };
  $("card").replaceChildren(
    element("p", {}, element("span", { className: "id" }, model.source || model.id), model.name ? ` (${model.name})` : ""),
    element("p", { className: "row" }, copy(model.id, "Copy its id", "copy-id"),
      ...(model.recipe ? [copy(JSON.stringify(model.recipe, null, 1), "Copy its recipe", "copy-recipe")] : []), copied),
    element("div", { className: "scroll" }, scores),
    element("p", { className: "small" }, `${objectives} (0 = base, 1 = expert)`),
    ...(D.fresh[model.id] ? [element("p", { id: "fresh" }, D.fresh[model.id])] : []),
    ...(model.note ? [element("p", { className: "wrong" }, model.note)] : []),
    element("p", { className: "small" }, D.weightsOf),
    element("div", { className: "weights" }, ...weights),
    ...(state.picked ? [backButton()] : []),
  );
}

function backButton() {
  const button = element("button", { type: "button" }, "Back to the recommended one");
  button.addEventListener("click", () => {
    state.picked = null;
    update();
  });
  return button;
}

async function toClipboard(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = element("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

function table(model) {
  const columns = [...D.raw, ...D.benchmarks.flatMap((name) => D.raw.map((metric) => `${name}.${metric}`))];
  const head = element("tr", {}, element("th", {}, "model"), ...columns.map((name) => element("th", { scope: "col" }, name)), element("th", {}, "search"));
  const rows = members().map((each) => {
    const button = element("button", { type: "button" }, each.source || each.id);
    button.addEventListener("click", () => pick(each.id));
    const row = element("tr", { className: model && each.id === model.id ? "chosen" : "" }, element("td", {}, button),
      ...columns.map((name) => element("td", {}, withError(each, name))), element("td", {}, each.search));
    if (model && each.id === model.id) row.setAttribute("aria-current", "true");
    return row;
  });
  $("front").replaceChildren(element("thead", {}, head), element("tbody", {}, ...rows));
}

// ------------------------------------------------------------------------------------------------------- answers

const loaded = {};
window.bamboAnswers = (id, rows) => { loaded[id] = rows; };

/** A script, since a page that is opened from a disk may load no other kind of file. */
function load(id) {
  if (loaded[id]) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = element("script", { src: `${D.folder}/${id}.js`, onload: resolve, onerror: () => reject(new Error(id)) });
    document.head.append(script);
  });
}

async function answers() {
  const model = current();
  const asked = [...new Set([model.id, ...D.ends])];
  $("told").textContent = "Loading …";
  try {
    await Promise.all(asked.map(load));
  } catch {
    $("told").textContent = `The answers are not beside this page: keep the folder ${D.folder} with it.`;
    return;
  }
  $("told").textContent = "";
  const places = loaded[model.id].map((row) => `${row.benchmark} ${row.question} ${row.repeat}`);
  const of = Object.fromEntries(asked.map((id) => [id, Object.fromEntries(loaded[id].map((row) => [`${row.benchmark} ${row.question} ${row.repeat}`, row]))]));
  const name = (id) => byId[id].source || id;
  const head = element("tr", {}, element("th", {}, "question"), ...asked.map((id) => element("th", { colSpan: 3, scope: "colgroup" }, name(id))), element("th"));
  const body = [];
  for (const place of places) {
    const found = asked.map((id) => of[id][place]);
    if ($("differ").checked && new Set(found.map((row) => row && row.correct)).size === 1) continue;
    const cells = found.flatMap((row) => row
      ? [element("td", { className: row.correct >= 0.5 ? "right" : "wrong" }, row.correct >= 0.5 ? "✓ right" : "✗ wrong"),
        element("td", {}, `${row.output_tokens} tokens`), element("td", {}, row.finish_reason)]
      : [element("td", { colSpan: 3 }, "–")]);
    const button = element("button", { type: "button" }, "text");
    const texts = element("tr", { hidden: true }, element("td"), ...found.map((row) => element("td", { colSpan: 3, className: "text" }, row ? row.text : "")), element("td"));
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => {
      texts.hidden = !texts.hidden;
      button.setAttribute("aria-expanded", String(!texts.hidden));
    });
    body.push(element("tr", {}, element("td", {}, place), ...cells, element("td", {}, button)), texts);
  }
  $("answers").replaceChildren(element("thead", {}, head), element("tbody", {}, ...body));
}

$("load").addEventListener("click", answers);
$("differ").addEventListener("change", () => $("answers").children.length && answers());
$("legend").replaceChildren(
  ...D.searches.flatMap((search) => [element("span", { style: `color:${search.colour}`, ariaHidden: "true" }, `${search.glyph} `), `${search.name}, `]),
  "faint where not on the front that is chosen from. The ring is at the model shown; click another one to look at it.",
);
controls();
update();
draw();
