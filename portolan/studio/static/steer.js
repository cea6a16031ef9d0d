// The panel Steer: samples drawn towards rewards, and completions of what is kept of an example.

import { Line } from "./api.js";
import { button, choice, either, el, seed, short, slider, status, tick } from "./dom.js";
import { colour, drawTiles, onScheme, placeOf, sheet } from "./draw.js";
import { View } from "./view.js";

const PAUSE = 120;

export function makeSteer() {
  const lines = { about: new Line("steerable"), tilt: new Line("tilt"), example: new Line("example") };
  let about = null;
  let able = null;
  let goals = [];
  let timer = 0;

  const mode = either({ name: "Steer", value: "reward", options: [["reward", "By rewards"], ["mask", "By a mask"]], on: suit });
  const list = el("div", { class: "goals" });
  const strength = slider({ name: "Strength", min: 0, max: 6, step: 0.1, value: 1, words: (v) => `${v.toFixed(1)} sd`,
    hint: "In standard deviations of the reward over the run's own samples.", on: later });
  const method = choice({ name: "Method", on: () => { suitMethod(); later(); } });
  const steps = slider({ name: "Steps of the method", min: 2, max: 16, value: 8, on: later });
  const count = slider({ name: "Particles", min: 8, max: 256, step: 8, value: 64, words: (v) => `8 × ${v}`, on: later,
    hint: "Eight islands, whose spread is the error of log Z." });
  const label = choice({ name: "Class", on: later });
  const start = seed({ on: later });

  const index = seed({ name: "Example", value: 0, on: fetchExample, hint: "Its number in the data." });
  const brush = either({ name: "Brush", value: "1", options: [["1", "Keep"], ["0", "Forget"]] });
  const noise = slider({ name: "Noise of the observation", min: 0.05, max: 1, step: 0.05, value: 0.2,
    words: (v) => v.toFixed(2), hint: "How far samples may be from what is kept, in pixels of [-1, 1].", on: later });
  const pad = el("canvas", { class: "pixels pad", tabindex: 0, role: "img",
    "aria-label": "The example. Draw to keep or forget pixels; arrow keys move, the space bar draws." });
  const half = (keep) => () => { mask = mask.map((_, k) => (keep(k % size[1], Math.floor(k / size[1])) ? 1 : 0)); drawPad(); later(); };
  const presets = el("div", { class: "row" },
    button("Left half", half((x) => x < size[1] / 2)), button("Top half", half((_, y) => y < size[0] / 2)),
    button("Nothing", half(() => false)));
  const masking = el("div", { class: "masking" }, el("div", { class: "side" }, index.node, brush.node, presets, noise.node),
    el("figure", {}, el("figcaption", {}, el("strong", {}, "What is kept"), el("span", { class: "soft" }, "Draw on it. What is dim is forgotten.")), pad));

  const note = status();
  const numbers = el("dl", { class: "numbers" });
  const before = new View({ words: "Samples of the run itself" });
  const after = new View({ words: "Samples drawn towards the reward" });
  const mean = el("canvas", { class: "pixels pad", role: "img", "aria-label": "The mean of all particles by weight" });
  const meanBox = el("figure", { class: "mean" }, el("figcaption", {}, el("strong", {}, "Mean"), el("span", { class: "soft" }, "of all particles, by weight")), mean);
  const bars = el("canvas", { class: "chart", role: "img", "aria-label": "Weights of the particles, the heaviest first" });
  const shares = el("canvas", { class: "chart", role: "img", "aria-label": "Effective share after each step of the method" });
  const words = { before: el("strong", {}, "The run itself"), after: el("strong", {}, "Steered") };
  const results = el("div", { class: "pair" },
    el("figure", {}, el("figcaption", {}, words.before), before.node),
    el("figure", {}, el("figcaption", {}, words.after), after.node));
  const weighed = el("figure", { class: "weights" }, el("figcaption", {}, el("strong", {}, "Weights"),
    el("span", { class: "soft" }, "the heaviest particle first, as multiples of the mean")), bars);
  const essBox = el("figure", { class: "weights" }, el("figcaption", {}, el("strong", {}, "Effective share"),
    el("span", { class: "soft" }, "of an island after each step, from noise to data")), shares);
  const more = el("div", { class: "pair" }, weighed, essBox, meanBox);
  const rewardSide = el("div", { class: "controls inner" }, list, strength.node);

  const node = el("div", { class: "panel" },
    el("div", { class: "controls" }, mode.node, rewardSide, method.node, steps.node, count.node, label.node, start.node),
    el("div", { class: "stage" }, note.node, masking, numbers, results, more));


  let size = [8, 8];
  let mask = [];
  let tile = null;
  let at = null; // the pixel of the keyboard
  let last = null;

  // The rewards.

  function fillGoals() {
    goals = able.rewards.map((kind, k) => {
      const self = { name: kind.name, argument: kind.argument };
      const weight = slider({ name: "Weight", min: -2, max: 2, step: 0.1, value: 1, words: (v) => v.toFixed(1), on: later });
      const more = [weight.node];
      if (kind.argument === "index") {
        self.index = seed({ name: "Example", value: 0, on: later });
        more.push(self.index.node);
      } else if (kind.argument === "angle" && about.shape.length === 1 && about.shape[0] === 2) {
        self.angle = slider({ name: "Direction", min: -180, max: 180, step: 5, value: 0, words: (v) => `${v}°`, on: later });
        more.push(self.angle.node);
      } else if (kind.argument === "text") {
        self.text = el("input", { type: "text", maxlength: 100, "aria-label": "Beginning of the text", oninput: later });
        more.push(self.text);
      }
      const inside = el("div", { class: "goal" }, el("small", {}, kind.words), more);
      inside.hidden = k > 0;
      self.on = tick({ name: kind.name, value: k === 0, on: (yes) => { inside.hidden = !yes; later(); } });
      self.weight = weight;
      self.on.node.title = kind.words;
      self.node = el("div", {}, self.on.node, inside);
      return self;
    });
    const first = goals.find(({ name }) => name === "brightness");
    if (first && goals[0] !== first) {
      goals[0].on.value = false;
      goals[0].node.lastChild.hidden = true;
      first.on.value = true;
      first.node.lastChild.hidden = false;
    }
    list.replaceChildren(el("strong", {}, "Rewards"), ...goals.map((goal) => goal.node));
  }

  const asked = () => goals.filter(({ on }) => on.value).map(({ name, weight, index: i, angle, text }) => ({
    name, weight: weight.value, index: i?.value, angle: angle?.value, text: text?.value }));

  // The mask.

  async function fetchExample() {
    const run = about;
    try {
      const found = await lines.example.ask("example", { run: run.run, index: index.value });
      if (!found || run !== about) return;
      tile = found.arrays.tiles;
      size = [tile.shape[1], tile.shape[2]];
      if (mask.length !== size[0] * size[1]) {
        mask = Array.from({ length: size[0] * size[1] }, (_, k) => (k % size[1] < size[1] / 2 ? 1 : 0));
      }
      if (found.label !== null && about.classes.length) label.value = String(found.label);
      drawPad();
      later();
    } catch (error) {
      note.say(error.message, true);
    }
  }

  function drawPad() {
    if (!tile) return;
    const [, high, wide, depth] = tile.shape;
    const shown = new Uint8Array(high * wide * 3);
    for (let k = 0; k < high * wide; k += 1) {
      for (let c = 0; c < 3; c += 1) {
        const value = tile.data[k * depth + (depth === 3 ? c : 0)];
        const cursor = at !== null && k === at[1] * wide + at[0];
        shown[3 * k + c] = cursor ? [31, 122, 224][c] : mask[k] ? value : 118 + Math.round((value - 128) * 0.1);
      }
    }
    drawTiles(pad, { data: shown, shape: [1, high, wide, 3] }, 1);
  }

  function paint(event) {
    const [px, py] = placeOf(event, pad);
    const x = Math.floor((px / pad.clientWidth) * size[1]);
    const y = Math.floor((py / pad.clientHeight) * size[0]);
    if (x < 0 || y < 0 || x >= size[1] || y >= size[0]) return;
    const r = Math.max(0, Math.round(size[1] / 20));
    for (let j = Math.max(0, y - r); j <= Math.min(size[0] - 1, y + r); j += 1) {
      for (let i = Math.max(0, x - r); i <= Math.min(size[1] - 1, x + r); i += 1) mask[j * size[1] + i] = Number(brush.value);
    }
    drawPad();
    later();
  }

  let painting = false;
  pad.addEventListener("pointerdown", (event) => {
    painting = true;
    at = null;
    pad.setPointerCapture(event.pointerId);
    paint(event);
  });
  pad.addEventListener("pointermove", (event) => painting && paint(event));
  for (const end of ["pointerup", "pointercancel"]) pad.addEventListener(end, () => (painting = false));
  pad.addEventListener("blur", () => { at = null; drawPad(); });
  pad.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (step) {
      const [x, y] = at ?? [0, 0];
      at = [Math.min(size[1] - 1, Math.max(0, x + step[0])), Math.min(size[0] - 1, Math.max(0, y + step[1]))];
    } else if (event.key === " " && at) {
      mask[at[1] * size[1] + at[0]] = Number(brush.value);
      later();
    } else return;
    event.preventDefault();
    drawPad();
  });

  // What is asked, and what comes.

  function later() {
    clearTimeout(timer);
    timer = setTimeout(go, PAUSE);
  }

  async function go() {
    if (!about || !able) return;
    const run = about;
    const masked = mode.value === "mask";
    const common = { run: run.run, method: method.value, steps: steps.value, n: count.value, seed: start.value,
      label: label.value === "" ? null : Number(label.value) };
    if (!masked && !asked().length) return note.say("Choose a reward.");
    if (masked && !mask.includes(1)) return note.say("Draw on the example: nothing of it is kept.");
    const begun = performance.now();
    note.soon("Steering… a method is compiled when it is first used, which may take some seconds.");
    try {
      const found = masked
        ? await lines.tilt.ask("complete", { ...common, index: index.value, noise: noise.value, mask: mask.join("") })
        : await lines.tilt.ask("tilt", { ...common, strength: strength.value, rewards: asked() });
      if (!found || run !== about) return;
      last = found;
      draw(found);
      const ms = performance.now() - begun;
      note.say(`${found.particles.toLocaleString("en")} particles, ${ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`}`);
      document.dispatchEvent(new CustomEvent("painted", { detail: { panel: "steer", ms } }));
    } catch (error) {
      note.say(error.message, true);
    }
  }

  const number = (name, value, more) => el("div", {}, el("dt", {}, name), el("dd", {}, value, more ? el("small", {}, more) : null));

  function draw(found) {
    const { arrays } = found;
    results.hidden = more.hidden = numbers.hidden = false;
    const error = found.log_z_error === null ? "" : ` ± ${short(found.log_z_error, 2)}`;
    numbers.replaceChildren(
      number("Reward", `${short(found.reward_prior)} → ${short(found.reward_tilted)}`, "mean of the run, then steered"),
      number("Effective share", `${(100 * found.share).toFixed(found.share < 0.1 ? 1 : 0)} %`, "of the particles carries the weight"),
      number("log Z", found.log_z === null ? "–" : `${short(found.log_z)}${error}`, found.log_z === null ? "this method gives none" : error ? "nats" : "nats; too few islands for an error"),
      number("λ", short(found.lambda), "of p(x) exp(λ r(x)) / Z"));
    const options = { columns: 5, behind: about.arrays.points };
    const parts = (prefix) => ({ arrays: { tiles: arrays[`${prefix}_tiles`], points: arrays[`${prefix}_points`] }, texts: found[`${prefix}_texts`] });
    before.show(parts("prior"), options);
    after.show(parts("tilted"), options);
    meanBox.hidden = !arrays.mean;
    if (arrays.mean) drawTiles(mean, arrays.mean, 1);
    drawBars(arrays.weights);
    essBox.hidden = found.ess.length < 2;
    if (!essBox.hidden) drawShares(found.ess);
  }

  function drawShares(values) {
    const { context, width, height } = sheet(shares);
    const left = 44;
    const px = (k) => left + (k / (values.length - 1)) * (width - left - 6);
    const py = (v) => 6 + (1 - v) * (height - 12);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.fillStyle = colour("soft");
    context.strokeStyle = colour("line");
    for (const v of [0, 0.5, 1]) {
      context.fillText(`${100 * v} %`, left - 5, py(v));
      context.beginPath();
      context.moveTo(left, py(v));
      context.lineTo(width, py(v));
      context.stroke();
    }
    context.strokeStyle = colour("accent");
    context.lineWidth = 2;
    context.beginPath();
    values.forEach((v, k) => (k ? context.lineTo(px(k), py(v)) : context.moveTo(px(k), py(v))));
    context.stroke();
  }

  function drawBars({ data, shape }) {
    const { context, width, height } = sheet(bars);
    const top = Math.max(2, data[0] * 1.05);
    context.fillStyle = colour("accent");
    const wide = width / shape[0];
    for (let k = 0; k < shape[0]; k += 1) {
      const h = (data[k] / top) * (height - 16);
      context.fillRect(k * wide, height - h, Math.max(wide - 0.3, 0.6), h);
    }
    const one = height - (height - 16) / top;
    context.strokeStyle = context.fillStyle = colour("soft");
    context.setLineDash([3, 3]);
    context.beginPath();
    context.moveTo(0, one);
    context.lineTo(width, one);
    context.stroke();
    context.setLineDash([]);
    context.font = "11px system-ui, sans-serif";
    context.textAlign = "right";
    context.fillText(`heaviest ${short(data[0], 2)} ×`, width, 11);
    if (one > 26) context.fillText("mean", width, one - 4);
  }

  function suitMethod() {
    const mine = able.methods.find(({ name }) => name === method.value);
    method.say(mine.words);
    steps.node.hidden = !mine.steps;
  }

  function suit() {
    const masked = mode.value === "mask";
    masking.hidden = !masked;
    rewardSide.hidden = masked;
    words.before.textContent = masked ? "Without the mask" : "The run itself";
    words.after.textContent = masked ? "Completions" : "Steered";
    results.hidden = more.hidden = numbers.hidden = true;
    last = null;
    if (able && masked && method.value === "snis" && able.methods.some(({ name }) => name === "smc")) {
      method.value = "smc";
      suitMethod();
      count.value = Math.min(32, able.most);
    }
    if (masked && able) fetchExample();
    else later();
  }

  onScheme(() => last && draw(last));

  return {
    node,
    name: "Steer",
    lines,
    async show(described) {
      if (about === described) return last && draw(last);
      about = described;
      able = last = null;
      results.hidden = more.hidden = numbers.hidden = true;
      tile = null;
      mask = [];
      clearTimeout(timer);
      Object.values(lines).forEach((line) => line.stop());
      for (const each of [before, after]) each.suit(about);
      node.classList.add("waiting");
      note.say("Looking which rewards fit this run…");
      try {
        const found = await lines.about.ask("steerable", { run: about.run });
        if (!found || about !== described) return;
        able = found;
      } catch (error) {
        note.say(`No steering: ${error.message}`);
        return;
      }
      node.classList.remove("waiting");
      fillGoals();
      mode.node.hidden = !able.mask || able.examples === 0;
      mode.value = "reward";
      method.fill(able.methods.map(({ name, exact }) => [name, exact ? `${name} (exact)` : name]), "snis");
      label.fill([["", about.all_classes ? "all together" : "all in turn"], ...about.classes.map((name, k) => [k, name])], "");
      label.node.hidden = about.classes.length === 0;
      count.bounds(Math.min(8, able.most), able.most);
      count.value = Math.min(64, able.most);
      suitMethod();
      suit();
    },
  };
}
