"use strict";
// Densities of two latents, a normal q, exact expectations by quadrature, and estimators of the gradient of the ELBO.
// q = {loc: [2], log_scale: [2], slope: number or null}: z = loc + C ε, C = [[exp(log_scale[0]), 0], [slope, exp(log_scale[1])]].
// A gradient has five numbers: of loc, of log_scale, and of slope (0 where q is factored).

const LOG_2PI = Math.log(2 * Math.PI);
const log_normal = (x, loc, scale) => -0.5 * ((x - loc) / scale) ** 2 - Math.log(scale) - 0.5 * LOG_2PI;

// Standard normal numbers from a seed: mulberry32 and Box–Muller.
function normals(seed) {
  let state = seed >>> 0, kept = null;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
  return () => {
    if (kept !== null) { const last = kept; kept = null; return last; }
    const radius = Math.sqrt(-2 * Math.log(1 - uniform())), angle = 2 * Math.PI * uniform();
    kept = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  };
}

// name → (settings, prior's sd) → {log_p, slope}: log p(x, z) with everything that evidence needs, and its gradient in z.
const FORMULAS = {
  correlated: seen((a, b) => a - b, () => [1, -1]),
  arms: seen((a, b) => a * b, (a, b) => [b, a]),
  banana: seen((a, b) => b + a * a, (a) => [2 * a, 1]),
  modes({ x, noise }, sd) {
    const prior = gaussian(sd);
    const both = (a, b) => [1, -1].map((sign) => log_normal(x[0], sign * a, noise) + log_normal(x[1], sign * b, noise));
    return {
      log_p(a, b) {
        const [plus, minus] = both(a, b), top = Math.max(plus, minus);
        return prior.log_p(a, b) + top + Math.log(Math.exp(plus - top) + Math.exp(minus - top)) - Math.log(2);
      },
      slope(a, b) {
        const [plus, minus] = both(a, b), w = 1 / (1 + Math.exp(minus - plus)), v = noise * noise, of = prior.slope(a, b);
        return [a, b].map((z, i) => of[i] + (w * (x[i] - z) - (1 - w) * (x[i] + z)) / v);
      },
    };
  },
  funnel({ y, sigma }) {
    const others = y.slice(1).map((value, j) => [value, sigma[j + 1] ** 2]);
    // All in τ²: the other schools' log density, and mean and variance of the first effect; each with its derivative.
    const given = (tau2) => {
      let s = 1 / 25, b = 0, ds = 0, db = 0, log = 0, dlog = 0;
      for (const [value, variance] of others) {
        const w = 1 / (variance + tau2);
        s += w; b += w * value; ds -= w * w; db -= w * w * value;
        log += 0.5 * (Math.log(w) - w * value * value); dlog += 0.5 * (w * w * value * value - w);
      }
      log += 0.5 * (b * b / s - Math.log(25 * s)) - 3.5 * LOG_2PI;
      dlog += b * db / s - 0.5 * b * b * ds / (s * s) - 0.5 * ds / s;
      return { log, dlog, m: b / s, dm: db / s - b * ds / (s * s), v: 1 / s + tau2, dv: 1 - ds / (s * s) };
    };
    return {
      log_p(a, b) {
        const { log, m, v } = given(Math.exp(2 * b)), t = 10 * a;
        return log + log_normal(t, m, Math.sqrt(v)) + log_normal(y[0], t, sigma[0]) + log_normal(b, 1, 1) + Math.log(10);
      },
      slope(a, b) {
        const tau2 = Math.exp(2 * b), { dlog, m, dm, v, dv } = given(tau2), t = 10 * a, r = t - m;
        const by_tau2 = dlog + r * dm / v + 0.5 * (r * r / (v * v) - 1 / v) * dv;
        return [10 * ((y[0] - t) / sigma[0] ** 2 - r / v), 2 * tau2 * by_tau2 - (b - 1)];
      },
    };
  },
};

function gaussian(sd) {
  return {
    log_p: (a, b) => log_normal(a, 0, sd) + log_normal(b, 0, sd),
    slope: (a, b) => [-a / (sd * sd), -b / (sd * sd)],
  };
}

// x = f(z) + noise, under independent normals.
function seen(f, df) {
  return ({ x, noise }, sd) => {
    const prior = gaussian(sd);
    return {
      log_p: (a, b) => prior.log_p(a, b) + log_normal(x, f(a, b), noise),
      slope(a, b) {
        const r = (x - f(a, b)) / (noise * noise), d = df(a, b), of = prior.slope(a, b);
        return [of[0] + r * d[0], of[1] + r * d[1]];
      },
    };
  };
}

function target_of(about) {
  return { ...about, ...FORMULAS[about.name](about.settings, about.prior), prior_slope: gaussian(about.prior).slope };
}

const roots_of = (q) => [Math.exp(q.log_scale[0]), q.slope ?? 0, Math.exp(q.log_scale[1])];

function density(q, a, b) {
  const [s, c, t] = roots_of(q), e = (a - q.loc[0]) / s, f = (b - q.loc[1] - c * e) / t;
  return -0.5 * (e * e + f * f) - q.log_scale[0] - q.log_scale[1] - LOG_2PI;
}

// Equally spaced nodes under a standard normal: for smooth functions as exact as any rule, and more so than Gauss's where one bends sharply.
function spaced(step) {
  const nodes = Array.from({ length: 2 * Math.round(6 / step) + 1 }, (_, i) => (i - Math.round(6 / step)) * step);
  const raw = nodes.map((e) => Math.exp(-0.5 * e * e)), sum = raw.reduce((x, y) => x + y, 0);
  return { nodes, weights: raw.map((w) => w / sum) };
}

const FINE = spaced(0.15), COARSE = spaced(0.4); // what is shown, and the steps on the way

// The exact ELBO in nats and its gradient: E_q log p(x, z) by quadrature, the entropy of q in closed form.
function exact(target, q, rule = FINE) {
  let elbo = q.log_scale[0] + q.log_scale[1] + 1 + LOG_2PI;
  const gradient = [0, 0, 1, 1, 0], [s, c, t] = roots_of(q);
  rule.nodes.forEach((e, i) => rule.nodes.forEach((f, j) => {
    const weight = rule.weights[i] * rule.weights[j];
    if (weight < 1e-12) return;
    const a = q.loc[0] + s * e, b = q.loc[1] + c * e + t * f;
    elbo += weight * target.log_p(a, b);
    along(q, e, f, target.slope(a, b)).forEach((value, k) => { gradient[k] += weight * value; });
  }));
  return { elbo, kl: target.evidence - elbo, gradient };
}

// A slope in z, taken along the path z(ε) to the parameters of q.
function along(q, e, f, [a, b]) {
  const [s, , t] = roots_of(q);
  return [a, b, a * s * e, b * t * f, q.slope === null ? 0 : b * e];
}

// C⁻ᵀ ε, which is −∇ log q in z, and ∇ log q in loc.
function whitened(q, e, f) {
  const [s, c, t] = roots_of(q);
  return [e / s - c * f / (s * t), f / t];
}

// ∇ log q in the parameters, where z stays.
function score_of(q, e, f) {
  const [a, b] = whitened(q, e, f);
  return [a, b, a * e * Math.exp(q.log_scale[0]) - 1, f * f - 1, q.slope === null ? 0 : b * e];
}

const add = (v, w, by = 1) => v.map((value, i) => value + by * w[i]);

// name → what it makes of draws ε (a list of pairs): one gradient. `broken` spoils it: "sign" turns the sign of log q, "score" leaves the weight of the score out.
const ESTIMATORS = {
  score: (target, q, draws, broken) => by_score(target, q, draws, broken, () => 0),
  rloo: (target, q, draws, broken) =>
    by_score(target, q, draws, broken, (log_w, sum) => (sum - log_w) / (draws.length - 1)),
  pathwise: by_path((target, q, e, f, z, sign) => add(along(q, e, f, target.slope(...z)), [0, 0, 1, 1, 0], sign)),
  stl: by_path((target, q, e, f, z, sign) => along(q, e, f, add(target.slope(...z), whitened(q, e, f), sign))),
  analytic_kl: by_path((target, q, e, f, z, sign) => {
    const likelihood = add(target.slope(...z), target.prior_slope(...z), -1), v = target.prior ** 2, [s, c, t] = roots_of(q);
    const kl = [q.loc[0] / v, q.loc[1] / v, s * s / v - 1, t * t / v - 1, q.slope === null ? 0 : c / v];
    return add(along(q, e, f, likelihood), kl, -sign);
  }),
};

function by_path(each) {
  return (target, q, draws, broken) => {
    const [s, c, t] = roots_of(q), sign = broken === "sign" ? -1 : 1;
    let sum = [0, 0, 0, 0, 0];
    for (const [e, f] of draws) {
      const z = [q.loc[0] + s * e, q.loc[1] + c * e + t * f];
      sum = add(sum, each(target, q, e, f, z, sign), 1 / draws.length);
    }
    return sum;
  };
}

function by_score(target, q, draws, broken, baseline) {
  const [s, c, t] = roots_of(q), sign = broken === "sign" ? -1 : 1;
  const log_w = draws.map(([e, f]) => {
    const a = q.loc[0] + s * e, b = q.loc[1] + c * e + t * f;
    return target.log_p(a, b) - sign * density(q, a, b);
  });
  const sum = log_w.reduce((x, y) => x + y, 0);
  let gradient = [0, 0, 0, 0, 0];
  draws.forEach(([e, f], k) => {
    const weight = broken === "score" ? -1 : log_w[k] - baseline(log_w[k], sum);
    gradient = add(gradient, score_of(q, e, f), weight / draws.length);
  });
  return gradient;
}

const fewest = (name) => (name === "rloo" ? 2 : 1);

const ROUNDING = 1e-9, QUADRATURE = 1e-6; // errors of a draw and of the exact gradient, relative to the size of a gradient

// Many gradients from common draws: {name: {mean, variance, z, gradients}}; z is the worst component's distance from the exact gradient in standard errors.
// A variance that is only rounding is 0, and so is the z of a distance that is only the quadrature's error.
function measure(target, q, names, draws, { replicas = 400, seed = 1, broken = null, truth = exact(target, q).gradient } = {}) {
  const next = normals(seed), found = {};
  const most = Math.max(draws, ...names.map(fewest));
  const noise = Array.from({ length: replicas }, () => Array.from({ length: most }, () => [next(), next()]));
  for (const name of names) {
    const used = Math.max(draws, fewest(name));
    const gradients = noise.map((all) => ESTIMATORS[name](target, q, used === most ? all : all.slice(0, used), broken));
    const mean = gradients.reduce((sum, g) => add(sum, g, 1 / replicas), [0, 0, 0, 0, 0]);
    const spread = mean.map((m, i) => gradients.reduce((sum, g) => sum + (g[i] - m) ** 2, 0) / (replicas - 1));
    const size = Math.max(...truth.map(Math.abs), 1), total = spread.reduce((x, y) => x + y, 0);
    const variance = total > (ROUNDING * size) ** 2 ? total : 0;
    const z = Math.max(...mean.map((m, i) => {
      const off = Math.abs(m - truth[i]);
      return off > QUADRATURE * size ? off / Math.hypot(Math.sqrt(spread[i] / replicas), QUADRATURE * size) : 0;
    }));
    found[name] = { mean, variance, z, gradients };
  }
  return found;
}

// Adam (Kingma & Ba 2015), upwards.
function ascend(state, gradient, rate) {
  state.count += 1;
  const { q, first, second, count } = state;
  const step = gradient.map((g, i) => {
    first[i] = 0.9 * first[i] + 0.1 * g;
    second[i] = 0.999 * second[i] + 0.001 * g * g;
    return rate * (first[i] / (1 - 0.9 ** count)) / (Math.sqrt(second[i] / (1 - 0.999 ** count)) + 1e-8);
  });
  state.q = {
    loc: [q.loc[0] + step[0], q.loc[1] + step[1]],
    log_scale: [q.log_scale[0] + step[2], q.log_scale[1] + step[3]],
    slope: q.slope === null ? null : q.slope + step[4],
  };
}

const begin = (q) => ({ q, first: [0, 0, 0, 0, 0], second: [0, 0, 0, 0, 0], count: 0, trail: [q.loc], elbos: [] });
