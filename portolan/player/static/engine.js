// Answers what the panel Sample asks, by a graph that runs in the browser: the same jobs as the
// studio's server, in the same words (portolan/studio/sampling.py).

import { foldIn, keyOf, normal, splitAt, uniform } from "./threefry.js";

const EACH = 256; // samples that take their noise from one key

const dot = (a, b) => a.reduce((sum, value, k) => sum + value * b[k], 0);
const mix = (p, a, q, b) => Float32Array.from(a, (value, k) => p * value + q * b[k]);
const wrap = (angle) => angle - 2 * Math.PI * Math.round(angle / (2 * Math.PI));

/** Noise of one key. */
function noiseOf(about, key) {
  const size = about.shape.reduce((a, b) => a * b, 1);
  if (about.space === "torus") return uniform(key, size, -Math.PI, Math.PI);
  const z = normal(key, size);
  return about.space ? mix(1 / Math.sqrt(dot(z, z)), z, 0, z) : z;
}

/** The noise of a sample of a seed: that of `apps.sample`. */
export function noiseAt(about, seed, index) {
  const key = splitAt(foldIn(keyOf(seed), Math.floor(index / EACH)), index % EACH);
  return noiseOf(about, splitAt(key, 0));
}

/** Noise turned by an angle towards a random direction. */
function turned(about, z, direction, angle) {
  const key = foldIn(keyOf(direction), 1);
  if (!about.space) return mix(Math.cos(angle), z, Math.sin(angle), noiseOf(about, key));
  const g = normal(key, z.length);
  const u = about.space === "torus" ? g : mix(1, g, -dot(g, z), z);
  const length = Math.max(Math.sqrt(dot(u, u)), 1e-6);
  if (about.space === "torus") return z.map((value, k) => wrap(value + (angle * u[k]) / length));
  return mix(Math.cos(angle), z, Math.sin(angle) / length, u);
}

/** A share of the way from one noise to another. */
function between(about, a, b, share) {
  if (about.space === "torus") return a.map((value, k) => wrap(value + share * wrap(b[k] - value)));
  const sizes = Math.sqrt(dot(a, a) * dot(b, b));
  const angle = Math.acos(Math.min(1, Math.max(-1, dot(a, b) / Math.max(sizes, 1e-300))));
  if (Math.min(angle, Math.PI - angle) < 1e-4) return mix(1 - share, a, share, b);
  const whole = Math.sin(angle);
  return mix(Math.sin((1 - share) * angle) / whole, a, Math.sin(share * angle) / whole, b);
}

/** What the page says of a bad request, in one line. */
class Wrong extends Error {}

/** The answers of one graph. `run(inputs)` evaluates it: arrays by name, to one array. */
export function makeEngine(about, run) {
  const size = about.shape.reduce((a, b) => a * b, 1);

  /** Samples of network values from standard noise, one class each. */
  async function draw(noises, labels, { steps, guidance }) {
    const n = noises.length;
    const shape = [n, ...about.shape];
    const x = new Float32Array(n * size);
    noises.forEach((z, k) => x.set(z, k * size));
    const fill = (value) => ({ data: new Float32Array(n).fill(value), shape: [n] });
    const rest = {};
    if (about.classes.length) rest.labels = { data: Int32Array.from(labels), shape: [n] };
    if (about.guided) rest.guidance = fill(guidance ?? 1);
    if (!about.grids) return { x: await run({ noise: { data: x, shape }, ...rest }), nfe: about.nfe };
    const times = about.grids[steps - 1];
    let state = x.map((value) => about.start * value);
    for (let k = 0; k < steps; k += 1) {
      const inputs = { x: { data: state, shape }, s: fill(times[k]), t: fill(times[k + 1]), ...rest };
      state = await run(inputs);
    }
    return { x: state, nfe: steps * about.each };
  }

  /** Network values as the page draws them. */
  function shown(x, n) {
    if (x.some((value) => !Number.isFinite(value))) throw new Wrong("values are not finite; draw other samples");
    const last = about.shape[about.shape.length - 1];
    if (about.view === "text") return { texts: texts(x, n), arrays: {} };
    if (about.view === "tiles") {
      const data = Uint8ClampedArray.from(x, (value) => 127.5 * (value / about.span + 1)); // ties to even, as NumPy
      return { arrays: { tiles: { data, shape: [n, ...about.shape] } } };
    }
    const { centre, spread } = about;
    const data = x.map((value, k) => (centre.length ? centre[k % last] + spread[k % last] * value : value));
    return { arrays: { points: { data: about.view === "torus" ? data.map(wrap) : data, shape: [n, last] } } };
  }

  function texts(x, n) {
    const [length, symbols] = about.shape;
    return Array.from({ length: n }, (_, k) => {
      const letters = Array.from({ length }, (_, place) => {
        const from = (k * length + place) * symbols;
        const row = x.subarray(from, from + symbols);
        return about.vocabulary[row.indexOf(Math.max(...row))];
      });
      let text = letters.join("");
      if (about.utf8) text = new TextDecoder().decode(Uint8Array.from(text, (c) => c.charCodeAt(0)));
      return about.end && text.includes(about.end) ? text.slice(0, text.indexOf(about.end)) : text;
    });
  }

  /** One class for all, or the classes in turn. */
  const labelsOf = (n, label) =>
    Array.from({ length: n }, (_, k) => label ?? k % Math.max(about.classes.length, 1));

  const jobs = {
    async sample({ n, seed, label, ...how }) {
      const noises = Array.from({ length: n }, (_, k) => noiseAt(about, seed, k));
      const { x, nfe } = await draw(noises, labelsOf(n, label), how);
      return { ...shown(x, n), n, nfe };
    },
    async walk({ a, b, direction, at, ...how }) {
      const first = noiseAt(about, a.seed, a.index);
      const second = b && noiseAt(about, b.seed, b.index);
      const noises = at.map((place) =>
        b ? between(about, first, second, place) : turned(about, first, direction, place));
      const { x } = await draw(noises, labelsOf(noises.length, a.label), how);
      return shown(x, at.length);
    },
  };
  return { draw, ask: (job, body) => jobs[job](body) };
}
