"use strict";
// The page: one state, drawn anew when it changes. Its formulas are in numbers.js.

const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const LOOKS = { score: ["score", "#d55e00"], rloo: ["RLOO", "#e69f00"], pathwise: ["pathwise", "#56b4e9"], stl: ["sticking the landing", "#009e73"], analytic_kl: ["analytic KL", "#cc79a7"] };
const NAMES = Object.keys(LOOKS);
const CORRELATIONS = FIGURES.targets.filter((t) => t.name === "correlated").map((t) => t.settings.correlation);
const VIEWS = { correlated: [-2.2, 2.6, -2.4, 2.4], arms: [-3, 3, -3, 3], banana: [-2.4, 2.4, -2.6, 2.2], modes: [-4, 4, -4, 4], funnel: [-1.6, 2.8, -1.9, 2.5] };
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
const $ = (id) => document.getElementById(id);

const state = { target: "correlated", correlation: 0.9, guide: "factored", q: null, draws: 1, rate: 0.05, broken: "", on: ["score", "rloo", "pathwise", "stl", "analytic_kl"], question: 0, answered: false };
let target = null, ways = {}, noise = normals(1), playing = false, held = null, measured = null, hidden = new Set();

// Questions: what is asked, the right answer, how the page stands then, what is kept hidden, and what is shown afterwards.
const QUESTIONS = [
  { ask: "q can move and stretch, but not rotate: it is factored. When the bound has stopped rising, how wide is q compared with the posterior?", choices: ["as wide", "wider", "narrower"], right: 2,
    set: { target: "correlated", correlation: 0.9, guide: "factored" }, hide: [],
    show() { climb(); const sd = Math.exp(ways.exact.q.log_scale[0]); return `Each sd of q is ${say(sd)}, and that of the posterior is ${say(target.sds[0])}: the variance is (1 − ρ²) = ${say(1 - target.settings.correlation ** 2)} times the right one, and KL = ${say(exact(target, ways.exact.q).kl)} nats remain. The variances of a factored q are those of each latent given the other.`; } },
  { ask: "Five estimators of the same gradient, one draw each. Which of them has the least variance here?", choices: ["score", "pathwise", "sticking the landing", "analytic KL"], right: 2,
    set: { target: "correlated", correlation: 0.9, guide: "factored" }, hide: ["clouds"],
    show() { return `The variance of the score estimator is ${say(variance_of("score") / variance_of("stl"), 2)} times as large, and that of the pathwise estimator, which keeps the score term, ${say(variance_of("pathwise") / variance_of("stl"), 2)} times. Drag q away from the posterior: is this still true?`; } },
  { ask: "Now q has a full covariance, so it can equal the posterior. When it does, how much noise does sticking the landing have?", choices: ["as much as the others", "about a tenth", "none"], right: 2,
    set: { target: "correlated", correlation: 0.9, guide: "full" }, hide: ["clouds"],
    show() { to_posterior(); return "If q is the posterior, log p(x, z) − log q(z) is the same for every z, so its derivative along the path is 0 for each draw. The other pathwise estimators keep the noise of a score term whose mean is 0."; } },
  { ask: "The posterior has two modes, q has one and starts between them. Where will it end?", choices: ["covering both", "on one of them", "it moves back and forth"], right: 1,
    set: { target: "modes", guide: "factored" }, hide: [],
    show() { climb(); return `KL(q ‖ p) = ${say(exact(target, ways.exact.q).kl)} nats, which is log 2 = 0.693 for the missing mode. To cover both, q would need mass where p is almost zero, which KL(q ‖ p) penalises most.`; } },
  { ask: "With twice as many draws, the variance of a gradient is multiplied by …", choices: ["1/2", "1/√2", "1/4"], right: 0,
    set: { target: "arms", guide: "factored" }, hide: ["noise"],
    show() { return "With independent draws the variance is proportional to 1/L, a straight line on these axes, for all estimators except RLOO, whose baseline improves too. A better estimator is worth many draws: read off how many the score function needs to match a pathwise gradient with one."; } },
  { ask: "Here log p(x) is about −31. Which of these would be less noisy if a constant were added to log p(x, z)?", choices: ["score", "RLOO", "pathwise", "all of them"], right: 0,
    set: { target: "funnel", guide: "factored" }, hide: [],
    show() { return `The score function multiplies ∇ log q by log p − log q, including its constant offset: its variance is ${say(variance_of("score") / variance_of("rloo"), 2)} times that of RLOO, which subtracts the offset (and needs at least two draws). Pathwise gradients depend only on derivatives. KL(q ‖ p(z)) has no closed form here, so there is no analytic-KL estimator.`; } },
  { ask: "The sign of log q is flipped by mistake. What will q do?", choices: ["shrink to a point", "spread out", "the same as before"], right: 0,
    set: { target: "banana", guide: "factored", broken: "sign" }, hide: [],
    show() {
      advance(400);
      const found = gradients().pathwise;
      return `After 400 steps the q of the pathwise estimator has the sds ${ways.pathwise.q.log_scale.map((v) => say(Math.exp(v), 2)).join(" and ")}: without the entropy term nothing keeps it wide. The table shows the error: the mean of 400 pathwise gradients is ${found ? say(found.z, 2) : "many"} standard errors off.`;
    } },
];

function say(value, digits = 3) {
  if (!Number.isFinite(value)) return "∞";
  const size = Math.abs(value);
  return size !== 0 && (size >= 1e5 || size < 1e-3) ? value.toExponential(1) : String(Number(value.toPrecision(digits)));
}

const fixed = (value) => (Math.abs(value) < 0.0005 ? 0 : value).toFixed(3); // never -0.000

const here = () => ways.exact.q;
const variance_of = (name) => (gradients()[name] ?? measure(target, here(), [name], draws())[name]).variance;
const broken = () => (state.broken === "few" || state.broken === "" ? null : state.broken);
const draws = () => (state.broken === "few" ? 1 : state.draws);
const rate = () => state.rate * (state.broken === "few" ? 10 : 1);
const shown = () => NAMES.filter((name) => state.on.includes(name) && (target.closed || name !== "analytic_kl"));

function choose_target(q = null) {
  target = target_of(FIGURES.targets.find((t) => t.name === state.target && (t.settings.correlation ?? state.correlation) === state.correlation));
  restart(q ?? { ...target.start, slope: state.guide === "full" ? 0 : null });
}

// All estimators start from q again, with the same random numbers.
function restart(q) {
  state.q = { loc: [...q.loc], log_scale: [...q.log_scale], slope: q.slope };
  ways = Object.fromEntries(["exact", ...NAMES].map((name) => [name, begin(state.q)]));
  noise = normals(1);
  measured = null;
}

function advance(steps) {
  for (let i = 0; i < steps; i++) {
    const most = Math.max(draws(), 2);
    const together = Array.from({ length: most }, () => [noise(), noise()]);
    for (const name of ["exact", ...shown()]) {
      const way = ways[name];
      const used = name === "exact" ? null : together.slice(0, Math.max(draws(), fewest(name)));
      const before = exact(target, way.q, COARSE);
      ascend(way, name === "exact" ? before.gradient : ESTIMATORS[name](target, way.q, used, broken()), rate());
      if (!way.q.loc.concat(way.q.log_scale).every(Number.isFinite)) Object.assign(way, begin(state.q));
      way.trail.push(way.q.loc);
      way.elbos.push(before.elbo);
    }
  }
  measured = null;
}

// To the best q of its family, by exact gradients.
function climb(steps = 800) {
  const way = ways.exact;
  for (let i = 0; i < steps; i++) {
    const before = exact(target, way.q, COARSE);
    ascend(way, before.gradient, 0.1 * (1 - i / steps));
    if (i % 5 === 0) { way.trail.push(way.q.loc); way.elbos.push(before.elbo); }
  }
  measured = null;
  draw();
}

// The normal with the posterior's moments; for the correlated posterior that is the posterior.
function to_posterior() {
  const [a, b] = target.sds, c = state.guide === "full" && target.settings.correlation ? target.settings.correlation : 0;
  restart({ loc: target.means, log_scale: [Math.log(a), Math.log(b * Math.sqrt(1 - c * c))], slope: state.guide === "full" ? b * c : null });
  draw();
}

// ---- drawing ----

function pen(id) {
  const canvas = $(id), box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, Math.round(box.width * ratio));
  canvas.height = Math.max(1, Math.round(box.height * ratio));
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  context.clearRect(0, 0, box.width, box.height);
  context.font = "12px system-ui, sans-serif";
  return [context, box.width, box.height];
}

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
let picture = { key: "", image: null };

function density_picture(view) {
  const key = [state.target, state.correlation, colour("density")].join();
  if (picture.key === key) return picture.image;
  const n = 200, image = document.createElement("canvas"), rgb = colour("density").split(",").map(Number);
  image.width = image.height = n;
  const context = image.getContext("2d"), pixels = context.createImageData(n, n), values = new Float64Array(n * n);
  let top = -Infinity;
  for (let j = 0; j < n; j++) for (let i = 0; i < n; i++) {
    const a = view[0] + (i + 0.5) / n * (view[1] - view[0]), b = view[3] - (j + 0.5) / n * (view[3] - view[2]);
    values[j * n + i] = target.log_p(a, b);
    top = Math.max(top, values[j * n + i]);
  }
  values.forEach((value, k) => {
    const band = Math.ceil(7 * Math.exp((value - top) / 2)) / 7; // bands of √density, so that flanks show
    pixels.data.set([...rgb, value - top < -9 ? 0 : 150 * band], 4 * k);
  });
  context.putImageData(pixels, 0, 0);
  picture = { key, image };
  return image;
}

function place(view, width) {
  const scale = width / (view[1] - view[0]);
  return { x: (a) => (a - view[0]) * scale, y: (b) => (view[3] - b) * scale, a: (x) => view[0] + x / scale, b: (y) => view[3] - y / scale, scale };
}

function draw_plane() {
  const [context, width] = pen("plane"), view = VIEWS[state.target], at = place(view, width), q = here();
  context.imageSmoothingEnabled = true;
  context.drawImage(density_picture(view), 0, 0, width, width);
  for (const name of ["exact", ...shown()]) {
    context.strokeStyle = name === "exact" ? colour("ink") : LOOKS[name][1];
    context.lineWidth = 1.5;
    context.beginPath();
    const trail = ways[name].trail, every = Math.ceil(trail.length / 2000);
    trail.forEach(([a, b], i) => { if (i % every === 0 || i === trail.length - 1) context.lineTo(at.x(a), at.y(b)); });
    context.stroke();
    if (name !== "exact" && trail.length > 1) ellipse(context, at, ways[name].q, LOOKS[name][1], [1], 1);
  }
  const truth = exact(target, q).gradient, [a, b] = q.loc;
  if (!hidden.has("clouds")) {
    const found = gradients();
    const noisy = Object.values(found).map((m) => Math.sqrt(m.variance)).filter((sd) => sd > 0), calm = noisy.length ? Math.min(...noisy) : 0;
    const length = 0.2 * (view[1] - view[0]) / Math.max(Math.hypot(truth[0], truth[1]), calm, QUADRATURE);
    context.globalAlpha = 0.55;
    for (const name of shown()) {
      context.fillStyle = LOOKS[name][1];
      for (const g of found[name].gradients.slice(0, 200)) context.fillRect(at.x(a + length * g[0]) - 1.5, at.y(b + length * g[1]) - 1.5, 3, 3);
    }
    context.globalAlpha = 1;
    arrow(context, at.x(a), at.y(b), at.x(a + length * truth[0]), at.y(b + length * truth[1]), colour("ink"));
  }
  ellipse(context, at, q, colour("accent"), [1, 2], 2.5);
  context.fillStyle = colour("accent");
  context.beginPath();
  context.arc(at.x(a), at.y(b), 5, 0, 2 * Math.PI);
  context.fill();
  for (const [x, y] of handles(q)) context.fillRect(at.x(x) - 5, at.y(y) - 5, 10, 10);
  context.fillStyle = colour("soft");
  context.fillText(state.target === "funnel" ? "z₁: first school's effect / 10" : "z₁", width - (state.target === "funnel" ? 160 : 20), width - 8);
  context.fillText(state.target === "funnel" ? "z₂ = log τ" : "z₂", 8, 16);
}

function handles(q) {
  const [s, c, t] = roots_of(q);
  return [[q.loc[0] + s, q.loc[1] + c], [q.loc[0], q.loc[1] + t]];
}

function ellipse(context, at, q, ink, sds, thick) {
  const [s, c, t] = roots_of(q);
  context.strokeStyle = ink;
  context.lineWidth = thick;
  for (const sd of sds) {
    context.beginPath();
    for (let i = 0; i <= 72; i++) {
      const e = sd * Math.cos(i * Math.PI / 36), f = sd * Math.sin(i * Math.PI / 36);
      context.lineTo(at.x(q.loc[0] + s * e), at.y(q.loc[1] + c * e + t * f));
    }
    context.stroke();
  }
}

function arrow(context, x, y, to_x, to_y, ink) {
  const angle = Math.atan2(to_y - y, to_x - x);
  context.strokeStyle = context.fillStyle = ink;
  context.lineWidth = 3;
  context.beginPath();
  context.moveTo(x, y);
  context.lineTo(to_x, to_y);
  context.stroke();
  if (Math.hypot(to_x - x, to_y - y) < 4) return;
  context.beginPath();
  for (const turn of [0, 2.6, -2.6]) context.lineTo(to_x + 9 * Math.cos(angle + turn), to_y + 9 * Math.sin(angle + turn));
  context.fill();
}

function draw_bar() {
  const [context, width, height] = pen("bar"), { elbo, kl } = exact(target, here());
  const reach = Math.max(4, Math.ceil(kl * 1.3)), x = (value) => 8 + (value - target.evidence + reach) / (1.1 * reach) * (width - 16);
  const left = Math.max(8, x(elbo)), end = x(target.evidence), top = 16, thick = height - 24;
  context.fillStyle = colour("accent");
  context.fillRect(8, top, left - 8, thick);
  context.fillStyle = colour("kl");
  context.fillRect(left, top, Math.max(0, end - left), thick);
  context.fillStyle = colour("ink");
  context.fillRect(end - 1, 8, 2, height - 12);
  context.textAlign = "right";
  context.fillText("log p(x)", end - 4, 12);
  context.fillStyle = colour("page");
  context.textAlign = "left";
  if (left > 60) context.fillText("ELBO", 14, top + thick / 2 + 4);
  if (end - left > 30) context.fillText("KL", left + 6, top + thick / 2 + 4);
  $("split").textContent = `log p(x) ${fixed(target.evidence)} = ELBO ${fixed(elbo)} + KL ${fixed(kl)} nats`;
}

function axes(context, width, height, xs, ys, x_label, y_label) {
  context.fillStyle = colour("soft");
  context.strokeStyle = colour("line");
  context.lineWidth = 1;
  context.textAlign = "right";
  for (const [y, text] of ys) {
    context.fillText(text, 46, y + 4);
    context.beginPath(); context.moveTo(50, y); context.lineTo(width - 8, y); context.stroke();
  }
  context.textAlign = "center";
  for (const [x, text] of xs) context.fillText(text, x, height - 6);
  context.textAlign = "right";
  context.fillText(x_label, width - 8, height - 6);
  context.textAlign = "left";
  context.fillText(y_label, 4, 12);
}

function draw_noise() {
  const [context, width, height] = pen("noise");
  if (hidden.has("noise")) {
    context.fillStyle = colour("soft");
    context.textAlign = "center";
    return context.fillText("shown after you have answered", width / 2, height / 2);
  }
  const counts = [1, 2, 4, 8, 16, 32, 64], lines = shown().map((name) => [name, counts.map((count) => (count < fewest(name) ? NaN : curve(name, count)))]);
  const values = lines.flatMap(([, line]) => line).filter((v) => v > 0).map(Math.log10), quiet = lines.filter(([, line]) => line.at(-1) === 0).map(([name]) => LOOKS[name][0]);
  context.fillStyle = colour("soft");
  if (quiet.length) context.fillText(`no noise here: ${quiet.join(", ")}`, 60, height - 26);
  if (!values.length) return;
  const low = Math.floor(Math.min(...values)), high = Math.ceil(Math.max(...values, low + 1));
  const x = (count) => 60 + Math.log2(count) / 6.6 * (width - 80), y = (value) => 18 + (high - Math.log10(value)) / (high - low) * (height - 44);
  const ticks = [];
  for (let power = low, every = Math.ceil((high - low) / 5); power <= high; power += every) ticks.push([y(10 ** power), say(10 ** power)]);
  axes(context, width, height, counts.slice(0, -1).map((count) => [x(count), String(count)]), ticks, "L = 64", "variance");
  for (const [name, line] of lines) {
    context.strokeStyle = context.fillStyle = LOOKS[name][1];
    context.lineWidth = 2;
    context.beginPath();
    counts.forEach((count, i) => { if (line[i] > 0) context.lineTo(x(count), y(line[i])); });
    context.stroke();
    counts.forEach((count, i) => { if (line[i] > 0) context.fillRect(x(count) - 2.5, y(line[i]) - 2.5, 5, 5); });
  }
}

// Variance with `count` draws.
let curves = { key: "", of: {} };
function curve(name, count) {
  const key = JSON.stringify([state.target, state.correlation, here(), broken()]);
  if (curves.key !== key) curves = { key, of: {} };
  const of = (curves.of[name] ??= {});
  const few = name === "rloo" ? count : 1; // of the others a mean of L has 1/L of the variance of one
  return (of[few] ??= measure(target, here(), [name], few, { replicas: Math.max(400, Math.round(4000 / few)), broken: broken() })[name].variance) * few / count;
}

function draw_bound() {
  const [context, width, height] = pen("bound"), names = ["exact", ...shown()];
  const longest = Math.max(2, ...names.map((name) => ways[name].elbos.length));
  const seen = names.flatMap((name) => ways[name].elbos).filter(Number.isFinite), floor = Math.min(exact(target, state.q).elbo, target.evidence - 0.5);
  const low = Math.max(Math.min(floor, ...thinned(seen)), 2 * floor - target.evidence), high = target.evidence + 0.08 * (target.evidence - low);
  const x = (i) => 52 + i / (longest - 1) * (width - 62), y = (value) => 18 + (high - Math.max(value, low)) / (high - low) * (height - 44);
  axes(context, width, height, [[56, "0"]], [0, 0.5, 1].map((part) => low + part * (target.evidence - low)).map((v) => [y(v), say(v)]), `step ${longest > 2 ? longest : ""}`, "nats");
  context.strokeStyle = colour("ink");
  context.setLineDash([5, 4]);
  context.beginPath(); context.moveTo(52, y(target.evidence)); context.lineTo(width - 8, y(target.evidence)); context.stroke();
  context.setLineDash([]);
  for (const name of names) {
    const line = ways[name].elbos, every = Math.ceil(line.length / 1000);
    context.strokeStyle = name === "exact" ? colour("ink") : LOOKS[name][1];
    context.lineWidth = 1.6;
    context.beginPath();
    line.forEach((value, i) => { if (i % every === 0) context.lineTo(x(i), y(value)); });
    context.stroke();
  }
}

const thinned = (values) => values.filter((_, i) => i % Math.ceil(values.length / 2000) === 0);

function gradients() {
  measured ??= measure(target, here(), shown(), draws(), { broken: broken() });
  return measured;
}

function draw_table() {
  const found = hidden.has("clouds") ? null : gradients(), body = $("estimators");
  const least = found && Math.min(...Object.values(found).map((m) => m.variance));
  body.replaceChildren(...NAMES.map((name) => {
    const row = document.createElement("tr"), cell = (text, kind) => { const td = document.createElement("td"); td.textContent = text; if (kind) td.className = kind; row.append(td); return td; };
    const label = document.createElement("label"), box = document.createElement("input"), swatch = document.createElement("span");
    box.type = "checkbox";
    box.checked = state.on.includes(name);
    box.disabled = name === "analytic_kl" && !target.closed;
    box.dataset.estimator = name;
    swatch.className = "swatch";
    swatch.style.background = LOOKS[name][1];
    label.append(box, swatch, LOOKS[name][0] + (draws() < fewest(name) ? ` (${fewest(name)} draws)` : ""));
    cell("").append(label);
    if (box.disabled) { cell(""); cell(""); cell("no closed form here"); return row; }
    const one = found?.[name];
    cell(one ? say(one.variance) : "?", "number");
    cell(one ? (least > 0 ? say(one.variance / least, 2) : "–") : "?", "number");
    cell(one ? verdict(one) : "?").dataset.verdict = name;
    return row;
  }));
}

// Of a sound estimator, the worst of five components is more than FIGURES.chance standard errors off in one case of twenty, and more than 5 in one of 300,000.
function verdict({ variance, z }) {
  const found = z > 5 ? "biased" : z > FIGURES.chance ? "can't tell" : "right";
  return variance === 0 ? `${found}: no noise here` : `${found}: ${say(z, 2)} SE off`;
}

function draw() {
  draw_plane(); draw_bar(); draw_table(); draw_bound();
  if (!playing && held === null) draw_noise(); // the one that takes a while
  $("rho").hidden = state.target !== "correlated";
  $("correlation").value = CORRELATIONS.indexOf(state.correlation);
  $("correlation_is").textContent = state.correlation;
  $("draws").value = Math.log2(state.draws);
  $("draws_is").textContent = state.draws;
  $("rate").value = Math.log10(state.rate);
  $("rate_is").textContent = say(state.rate, 2);
  for (const id of ["target", "guide", "broken"]) $(id).value = state[id];
  $("play").textContent = playing ? "Pause" : "Play";
  remember();
}

// ---- questions ----

function ask(number) {
  state.question = (number + QUESTIONS.length) % QUESTIONS.length;
  const question = QUESTIONS[state.question];
  playing = false;
  Object.assign(state, { broken: "", draws: 1, answered: false }, question.set);
  hidden = new Set(question.hide);
  choose_target();
  show_question();
  draw();
}

function show_question(answer = "") {
  const question = QUESTIONS[state.question];
  $("ask").textContent = question.ask;
  $("answer").textContent = answer;
  $("number").textContent = `${state.question + 1} of ${QUESTIONS.length}`;
  $("choices").replaceChildren(...question.choices.map((text, i) => {
    const button = document.createElement("button");
    button.textContent = text;
    button.onclick = () => {
      hidden.clear();
      state.answered = true;
      const said = question.show();
      show_question(`${i === question.right ? "Yes" : "No"}: ${question.choices[question.right]}. ${said}`);
      [...$("choices").children].forEach((other, j) => { other.className = j === question.right ? "right" : j === i ? "wrong" : ""; });
      draw();
    };
    return button;
  }));
}

// ---- the address ----

function remember() {
  const { loc, log_scale, slope } = here(), values = { ...state, on: state.on.join("."), q: [...loc, ...log_scale, ...(slope === null ? [] : [slope])].map((v) => Number(v.toPrecision(4))).join("_") };
  history.replaceState(null, "", "#" + new URLSearchParams(values));
}

function recall() {
  const given = new URLSearchParams(location.hash.slice(1)), number = (key) => (Number.isFinite(parseFloat(given.get(key))) ? parseFloat(given.get(key)) : state[key]);
  if (![...given].length) return false;
  if (given.get("target") in VIEWS) state.target = given.get("target");
  state.correlation = CORRELATIONS.includes(number("correlation")) ? number("correlation") : 0.9;
  state.guide = given.get("guide") === "full" ? "full" : "factored";
  state.draws = [1, 2, 4, 8, 16, 32, 64].includes(number("draws")) ? number("draws") : 1;
  state.rate = Math.min(5, Math.max(0.003, number("rate")));
  state.broken = ["score", "sign", "few"].includes(given.get("broken")) ? given.get("broken") : "";
  if (given.has("on")) state.on = given.get("on").split(".").filter((name) => name in LOOKS);
  state.question = Math.min(QUESTIONS.length - 1, Math.max(0, Math.round(number("question"))));
  state.answered = given.get("answered") === "true";
  hidden = new Set(state.answered ? [] : QUESTIONS[state.question].hide);
  const q = (given.get("q") ?? "").split("_").map(Number);
  const whole = q.length === (state.guide === "full" ? 5 : 4) && q.every(Number.isFinite);
  choose_target(whole ? { loc: q.slice(0, 2), log_scale: q.slice(2, 4), slope: q[4] ?? null } : null);
  return true;
}

// ---- what a reader does ----

function move(change) {
  const q = here(), next = { loc: [...q.loc], log_scale: [...q.log_scale], slope: q.slope };
  change(next);
  next.log_scale = next.log_scale.map((value) => Math.min(2, Math.max(-5, value)));
  restart(next);
  draw();
}

$("plane").addEventListener("pointerdown", (event) => {
  const box = $("plane").getBoundingClientRect(), at = place(VIEWS[state.target], box.width), x = event.clientX - box.left, y = event.clientY - box.top;
  const places = [here().loc, ...handles(here())].map(([a, b]) => Math.hypot(at.x(a) - x, at.y(b) - y));
  held = places.indexOf(Math.min(...places));
  if (places[held] > 40) held = 0;
  try { $("plane").setPointerCapture(event.pointerId); } catch { /* a pointer that a script made up */ }
});
$("plane").addEventListener("pointermove", (event) => {
  if (held === null) return;
  const box = $("plane").getBoundingClientRect(), at = place(VIEWS[state.target], box.width), a = at.a(event.clientX - box.left), b = at.b(event.clientY - box.top);
  move((q) => {
    if (held === 0) q.loc = [a, b];
    if (held === 1) { q.log_scale[0] = Math.log(Math.max(0.02, a - q.loc[0])); if (q.slope !== null) q.slope = b - q.loc[1]; }
    if (held === 2) q.log_scale[1] = Math.log(Math.max(0.02, b - q.loc[1]));
  });
});
for (const end of ["pointerup", "pointercancel"]) $("plane").addEventListener(end, () => { held = null; draw(); });

$("plane").addEventListener("keydown", (event) => {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (way) move((q) => { const what = event.shiftKey ? q.log_scale : q.loc; what[0] += 0.05 * way[0]; what[1] += 0.05 * way[1]; });
  else if (event.key === " ") $("play").click();
  else if (event.key === "s" || event.key === "S") $("step").click();
  else if (event.key === "r" || event.key === "R") $("reset").click();
  else return;
  event.preventDefault();
});

function tick() {
  if (!playing) return;
  advance(2);
  draw();
  if (ways.exact.elbos.length > 4000) playing = false;
  requestAnimationFrame(tick);
}

$("play").onclick = () => {
  if (still.matches) { advance(100); return draw(); } // no motion: a hundred steps at once
  playing = !playing;
  tick();
  draw();
};
$("step").onclick = () => { advance(1); draw(); };
$("reset").onclick = () => { playing = false; choose_target(); draw(); };
$("posterior").onclick = to_posterior;
$("before").onclick = () => ask(state.question - 1);
$("after").onclick = () => ask(state.question + 1);
$("target").onchange = () => { state.target = $("target").value; choose_target(); draw(); };
$("guide").onchange = () => { state.guide = $("guide").value; restart({ ...here(), slope: state.guide === "full" ? 0 : null }); draw(); };
$("broken").onchange = () => { state.broken = $("broken").value; restart(here()); draw(); };
$("correlation").oninput = () => { state.correlation = CORRELATIONS[Number($("correlation").value)]; choose_target(here()); draw(); };
$("draws").oninput = () => { state.draws = 2 ** Number($("draws").value); measured = null; draw(); };
$("rate").oninput = () => { state.rate = 10 ** Number($("rate").value); draw(); };
$("estimators").onchange = (event) => {
  const name = event.target.dataset.estimator;
  state.on = event.target.checked ? [...state.on, name] : state.on.filter((other) => other !== name);
  measured = null;
  draw();
};
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

$("correlation").max = CORRELATIONS.length - 1;
if (recall()) { show_question(); draw(); } else ask(0);
