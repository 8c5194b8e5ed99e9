"use strict";
// A point in the latent space, and what the decoder makes of it.

const FIGURES = JSON.parse(document.getElementById("figures").textContent);
const [HIDDEN, OUTPUT] = FIGURES.decoder, [HEIGHT, WIDTH] = FIGURES.image;
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#999933", "#882255", "#8c510a", "#6a3d9a"];
const REACH = 1.05 * Math.max(3, ...FIGURES.codes.flat().map(Math.abs)), CHARTED = 15;
const $ = (id) => document.getElementById(id);
const still = window.matchMedia("(prefers-reduced-motion: reduce)");
let z = [0, 0], map = false, walking = 0;

const layer = ({ weight, bias }, input) => bias.map((b, i) => weight[i].reduce((sum, w, j) => sum + w * input[j], b));

// Probabilities of ink, row by row.
function decode(code) {
  return layer(OUTPUT, layer(HIDDEN, code).map(Math.tanh)).map((logit) => 1 / (1 + Math.exp(-logit)));
}

function nearest(code) {
  let best = 0, least = Infinity;
  FIGURES.codes.forEach(([a, b], i) => {
    const far = (a - code[0]) ** 2 + (b - code[1]) ** 2;
    if (far < least) [best, least] = [i, far];
  });
  return best;
}

function pen(id) {
  const canvas = $(id), box = canvas.getBoundingClientRect(), ratio = window.devicePixelRatio || 1;
  canvas.width = canvas.height = Math.max(1, Math.round(box.width * ratio));
  const context = canvas.getContext("2d");
  context.scale(ratio, ratio);
  return [context, box.width];
}

const dark = () => window.matchMedia("(prefers-color-scheme: dark)").matches;

function paint(context, pixels, x, y, width, height) {
  pixels.forEach((p, i) => {
    const grey = Math.round(255 * (dark() ? p : 1 - p)), left = x + (i % WIDTH) * width / WIDTH, top = y + Math.floor(i / WIDTH) * height / HEIGHT;
    context.fillStyle = `rgb(${grey}, ${grey}, ${grey})`;
    context.fillRect(left, top, width / WIDTH + 0.6, height / HEIGHT + 0.6);
  });
}

function draw() {
  const [context, width] = pen("chart"), to = (v, turn = 1) => width / 2 + turn * v / REACH * width / 2;
  if (map) {
    const cell = width / CHARTED;
    for (let i = 0; i < CHARTED; i++) for (let j = 0; j < CHARTED; j++) {
      const code = [((i + 0.5) / CHARTED * 2 - 1) * REACH, (1 - (j + 0.5) / CHARTED * 2) * REACH];
      paint(context, decode(code), i * cell + 1, j * cell + 1, cell - 2, cell - 2);
    }
  }
  context.globalAlpha = map ? 0.35 : 0.75;
  FIGURES.codes.forEach(([a, b], i) => {
    context.fillStyle = COLOURS[(FIGURES.labels[i] ?? 0) % COLOURS.length];
    context.fillRect(to(a) - 2, to(b, -1) - 2, 4, 4);
  });
  context.globalAlpha = 1;
  const style = getComputedStyle(document.documentElement), ink = style.getPropertyValue("--ink");
  context.strokeStyle = ink;
  for (const sd of [1, 2]) { context.setLineDash([4, 4]); context.beginPath(); context.arc(width / 2, width / 2, sd / REACH * width / 2, 0, 7); context.stroke(); }
  context.setLineDash([]);
  context.lineWidth = 3;
  context.fillStyle = style.getPropertyValue("--page");
  context.beginPath(); context.arc(to(z[0]), to(z[1], -1), 8, 0, 7); context.fill(); context.stroke();
  const [picture, side] = pen("picture");
  paint(picture, decode(z), 0, 0, side, side);
  const label = FIGURES.labels[nearest(z)];
  $("place").textContent = `z = (${z[0].toFixed(2)}, ${z[1].toFixed(2)})` + (label === undefined ? "" : `; the nearest code belongs to class ${label}`);
  history.replaceState(null, "", `#z=${z.map((v) => v.toFixed(3)).join("_")}&map=${map ? 1 : 0}`);
}

function put(a, b) {
  z = [a, b].map((v) => Math.min(REACH, Math.max(-REACH, v)));
  draw();
}

let held = false;
const follow = (event) => {
  const box = $("chart").getBoundingClientRect();
  put(((event.clientX - box.left) / box.width * 2 - 1) * REACH, (1 - (event.clientY - box.top) / box.height * 2) * REACH);
};
$("chart").addEventListener("pointerdown", (event) => {
  held = true;
  try { $("chart").setPointerCapture(event.pointerId); } catch { /* a pointer that a script made up */ }
  follow(event);
});
$("chart").addEventListener("pointermove", (event) => { if (held) follow(event); });
for (const end of ["pointerup", "pointercancel"]) $("chart").addEventListener(end, () => { held = false; });
$("chart").addEventListener("keydown", (event) => {
  const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (!way) return;
  put(z[0] + 0.1 * way[0], z[1] + 0.1 * way[1]);
  event.preventDefault();
});
$("map").onchange = () => { map = $("map").checked; draw(); };
$("walk").onclick = () => {
  const pick = () => FIGURES.codes[Math.floor(Math.random() * FIGURES.codes.length)], from = pick(), to = pick(), turn = ++walking;
  const at = (t) => put(from[0] + t * (to[0] - from[0]), from[1] + t * (to[1] - from[1]));
  if (still.matches) return at(0.5); // no motion: the middle of the way
  let start = null;
  const go = (now) => {
    start ??= now;
    at(Math.min(1, (now - start) / 3000));
    if (now - start < 3000 && turn === walking && !held) requestAnimationFrame(go);
  };
  requestAnimationFrame(go);
};
window.addEventListener("resize", draw);
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);

$("about").textContent = `A variational autoencoder with two latents, trained on ${FIGURES.codes.length} images (${FIGURES.data}). Each dot is the code of an image, the mean of q(z|x); the circles are one and two standard deviations of the prior. Drag the point, or use the arrow keys.`;
const classes = [...new Set(FIGURES.labels)].sort((a, b) => a - b);
$("legend").replaceChildren(...classes.map((label) => {
  const entry = document.createElement("span"), swatch = document.createElement("i");
  swatch.className = "swatch";
  swatch.style.background = COLOURS[label % COLOURS.length];
  entry.append(swatch, String(label));
  return entry;
}));
const given = new URLSearchParams(location.hash.slice(1)), code = (given.get("z") ?? "").split("_").map(Number);
if (code.length === 2 && code.every(Number.isFinite)) z = code;
map = $("map").checked = given.get("map") === "1";
draw();
