// The panel Training: curves and pictures of runs, as they go on, side by side.

import { Line } from "./api.js";
import { button, el, short, slider, status, tick } from "./dom.js";
import { colour, onScheme, placeOf, sheet, ticks } from "./draw.js";

const EVERY = 2000;
const INKS = ["accent", "warm", "third", "fourth", "fifth", "sixth"];
const WORDS = { loss: "Loss", grad_norm: "Norm of the gradient", samples_per_second: "Samples a second" };

export function makeTraining(runs) {
  let about = null;
  let shown = false;
  let timer = 0;
  let drawing = 0;
  const entries = new Map(); // by the number of a run: its log and its pictures
  const charts = new Map(); // by the name of a figure
  const lines = {};

  const log = tick({ name: "Logarithmic", value: true, on: redraw });
  const smooth = slider({ name: "Smoothing", min: 0, max: 0.95, step: 0.05, value: 0, words: (v) => (v ? v.toFixed(2) : "none"), on: redraw });
  const list = el("div", { class: "goals" });
  const newer = el("div", {});
  const note = status();
  const grid = el("div", { class: "charts" });
  const gallery = el("div", { class: "gallery" });
  const node = el("div", { class: "panel alone" },
    el("div", { class: "controls" }, list, log.node, smooth.node, newer),
    el("div", { class: "stage" }, note.node, grid, el("h2", { class: "space" }, "Samples on the way"), gallery));

  function entry(run) {
    if (entries.has(run.run)) return entries.get(run.run);
    const self = { run: run.run, name: run.name, ink: INKS[run.run % INKS.length], steps: [], figures: {}, place: 0, pictures: [], index: 0, shownPicture: "" };
    self.on = tick({ name: run.name, on: () => { refresh(); redraw(); } });
    self.on.node.append(el("span", { class: `ink ${self.ink}` }));
    self.image = el("img", { alt: "" });
    self.words = el("span", { class: "soft" });
    self.slide = slider({ name: "Picture", min: 0, max: 0, value: 0, words: (k) => self.pictures[k] ?? "none", on: (k) => { self.index = k; self.follow = k === self.pictures.length - 1; fetchPicture(self); } });
    self.box = el("figure", {}, el("figcaption", {}, el("strong", {}, self.name), self.words), self.image, self.slide.node);
    self.follow = true;
    entries.set(run.run, self);
    lines[`follow${run.run}`] = self.line = new Line(`follow-${run.run}`);
    lines[`picture${run.run}`] = self.pictureLine = new Line(`picture-${run.run}`);
    return self;
  }

  const ticked = () => [...entries.values()].filter(({ on }) => on.value);

  async function poll(self) {
    const from = self.place;
    const found = await self.line.ask("follow", { run: self.run, place: from });
    if (!found || from !== self.place) return; // another look has read it
    if (found.again) Object.assign(self, { steps: [], figures: {} });
    self.place = found.place;
    const before = self.steps.length;
    self.steps.push(...found.steps);
    for (const [name, values] of Object.entries(found.figures)) {
      self.figures[name] ??= Array(before).fill(null);
      self.figures[name].push(...values);
    }
    for (const values of Object.values(self.figures)) {
      while (values.length < self.steps.length) values.push(null);
    }
    self.checkpoint = found.checkpoint;
    self.done = !found.going;
    if (found.pictures.length !== self.pictures.length) {
      self.pictures = found.pictures;
      self.slide.bounds(0, Math.max(0, self.pictures.length - 1));
      if (self.follow) self.index = Math.max(0, self.pictures.length - 1);
      self.slide.value = self.index;
    }
    const step = self.steps.at(-1);
    self.words.textContent = step === undefined ? "no figures yet" : `${self.done ? (found.done ? "finished at" : "stopped at") : "goes on, at"} step ${step.toLocaleString("en")}`;
    await fetchPicture(self);
  }

  async function fetchPicture(self) {
    self.slide.node.hidden = self.pictures.length < 2;
    const wanted = self.pictures[self.index];
    if (!wanted || wanted === self.shownPicture) return;
    const found = await self.pictureLine.ask("picture", { run: self.run, index: self.index });
    if (!found) return;
    const url = URL.createObjectURL(new Blob([found.arrays.png.data], { type: "image/png" }));
    const old = self.image.src;
    self.image.src = url;
    self.image.alt = `Samples of ${self.name}, ${wanted}`;
    if (old) URL.revokeObjectURL(old);
    self.shownPicture = wanted;
  }

  async function refresh() {
    clearTimeout(timer);
    if (!shown) return;
    try {
      await Promise.all(ticked().map(poll));
      gallery.replaceChildren(...ticked().filter(({ pictures }) => pictures.length).map(({ box }) => box));
      if (!gallery.childElementCount) gallery.textContent = "No pictures yet; apps.train --sample-every says how often they are drawn.";
      const going = ticked().filter(({ done }) => !done).length;
      note.say(going ? `${going} of ${ticked().length} ${ticked().length === 1 ? "run goes" : "runs go"} on; its files are read every ${EVERY / 1000} seconds.` : "None of them is being trained now.");
      offer();
      redraw();
      document.dispatchEvent(new CustomEvent("painted", { detail: { panel: "training" } }));
    } catch (error) {
      note.say(error.message, true);
    }
    if (shown) timer = setTimeout(refresh, EVERY);
  }

  /** Offers the newest checkpoint, where the other panels show an older one. */
  function offer() {
    const self = about && entries.get(about.run);
    const later = self?.checkpoint && about.step !== null && self.checkpoint > about.step;
    newer.replaceChildren(...(later ? [el("p", { class: "hint" }, `The other panels show step ${about.step.toLocaleString("en")}.`),
      button(`Open step ${self.checkpoint.toLocaleString("en")}`, () => document.dispatchEvent(new CustomEvent("reload", { detail: about.run })), { class: "main" })] : []));
  }

  // The charts.

  function names() {
    const found = new Set();
    for (const { figures } of ticked()) Object.keys(figures).forEach((name) => found.add(name));
    const order = ["loss"];
    return [...found].sort((a, b) => (order.includes(b) - order.includes(a)) || a.localeCompare(b));
  }

  function redraw() {
    cancelAnimationFrame(drawing);
    drawing = requestAnimationFrame(() => {
      const wanted = names();
      for (const name of wanted) {
        if (!charts.has(name)) charts.set(name, makeChart(name));
      }
      const nodes = wanted.map((name) => charts.get(name).node);
      if (nodes.length !== grid.childElementCount || nodes.some((each, k) => each !== grid.children[k])) grid.replaceChildren(...nodes);
      wanted.forEach((name) => charts.get(name).draw());
    });
  }

  function makeChart(name) {
    const canvas = el("canvas", { class: "chart", role: "img" });
    const value = el("span", { class: "soft" });
    const box = el("figure", {}, el("figcaption", {}, el("strong", {}, WORDS[name] ?? name), value), canvas);
    let hover = null;
    canvas.addEventListener("pointermove", (event) => { [hover] = placeOf(event, canvas); draw(); });
    canvas.addEventListener("pointerleave", () => { hover = null; draw(); });

    function draw() {
      const curves = ticked().filter(({ figures }) => figures[name]).map((self) => ({ ...self, values: smoothed(self.figures[name], smooth.value) }));
      const finite = curves.flatMap(({ values }) => values.filter((v) => v !== null && Number.isFinite(v) && (!log.value || v > 0)));
      canvas.setAttribute("aria-label", `${WORDS[name] ?? name}: ${curves.map((c) => `${c.name} ${short(c.values.at(-1))}`).join(", ")}`);
      if (!finite.length || !canvas.clientWidth) return;
      const scale = log.value ? Math.log10 : (v) => v;
      const { context, width, height } = sheet(canvas);
      let [low, high] = finite.reduce(([a, b], v) => [Math.min(a, scale(v)), Math.max(b, scale(v))], [Infinity, -Infinity]);
      if (high - low < 1e-9) [low, high] = [low - 0.5, high + 0.5];
      const last = Math.max(...curves.map(({ steps }) => steps.at(-1) ?? 1), 1);
      const [left, right, top, bottom] = [46, 8, 6, 20];
      const px = (step) => left + (step / last) * (width - left - right);
      const py = (v) => top + (1 - (scale(v) - low) / (high - low)) * (height - top - bottom);
      axes(context, { low, high, last, px, py, width, height, left, right, bottom, top, log: log.value });
      const said = [];
      let place = "";
      for (const { steps, values, ink, name: run } of curves) {
        context.strokeStyle = colour(ink);
        context.lineWidth = 1.7;
        context.beginPath();
        let pen = false;
        steps.forEach((step, k) => {
          const v = values[k];
          if (v === null || (log.value && !(v > 0))) { pen = false; return; }
          if (pen) context.lineTo(px(step), py(v));
          else context.moveTo(px(step), py(v));
          pen = true;
        });
        context.stroke();
        const k = hover === null ? steps.length - 1 : nearestStep(steps, ((hover - left) / (width - left - right)) * last);
        said.push(el("span", { class: `of ${ink}`, title: run }, short(values[k], 4)));
        if (hover !== null) place = ` at step ${steps[k]?.toLocaleString("en")}`;
        if (hover !== null && values[k] !== null) {
          context.fillStyle = colour(ink);
          context.beginPath();
          context.arc(px(steps[k]), py(values[k]), 3.5, 0, 2 * Math.PI);
          context.fill();
        }
      }
      value.replaceChildren(...said, place);
    }
    new ResizeObserver(draw).observe(canvas);
    return { node: box, draw };
  }

  onScheme(redraw);

  return {
    node,
    name: "Training",
    lines,
    /** For a run that has not been opened: its log is there all the same. */
    without(run) {
      this.show({ run, step: null });
    },
    show(described) {
      about = described;
      const all = runs();
      all.forEach(entry);
      list.replaceChildren(el("strong", {}, "Runs"), ...all.map((run) => entries.get(run.run).on.node));
      entries.get(about.run).on.value = true;
      shown = true;
      refresh();
    },
    hide() {
      shown = false;
      clearTimeout(timer);
    },
  };
}

function smoothed(values, by) {
  if (!by) return values;
  let mean = null;
  return values.map((v) => (v === null ? null : (mean = mean === null ? v : by * mean + (1 - by) * v)));
}

function nearestStep(steps, wanted) {
  let best = 0;
  steps.forEach((step, k) => { if (Math.abs(step - wanted) < Math.abs(steps[best] - wanted)) best = k; });
  return best;
}

function axes(context, { low, high, last, px, width, height, left, right, bottom, top, log }) {
  context.font = "11px system-ui, sans-serif";
  context.strokeStyle = colour("line");
  context.fillStyle = colour("soft");
  context.lineWidth = 1;
  const span = height - top - bottom;
  const wide = log && high - low > 1.5; // decades, else round numbers
  const places = !log ? ticks(low, high, 4) : wide ? ticks(low, high, 4).filter(Number.isInteger)
    : ticks(10 ** low, 10 ** high, 4).map(Math.log10);
  context.textAlign = "right";
  context.textBaseline = "middle";
  for (const v of places) {
    const y = Math.round(top + (1 - (v - low) / (high - low)) * span) + 0.5;
    context.beginPath();
    context.moveTo(left, y);
    context.lineTo(width - right, y);
    context.stroke();
    context.fillText(short(log ? 10 ** v : v, 2), left - 6, y);
  }
  context.textAlign = "center";
  context.textBaseline = "top";
  for (const step of ticks(0, last, 4)) context.fillText(step.toLocaleString("en"), Math.min(Math.max(px(step), left + 4), width - right - 12), height - bottom + 5);
}
