// The panel Sample: a grid of samples, and one whose noise is held and carried along.

import { Line } from "./api.js";
import { button, choice, either, el, seed, slider, status } from "./dom.js";
import { View, columnsOf } from "./view.js";

const STRIP = 9;

/** The panel. `asks(job, body)` answers in place of the server. */
export function makeSample(asks) {
  const lines = {
    grid: new Line("sample", asks), one: new Line("walk", asks), strip: new Line("strip", asks),
  };
  let about = null;
  let held = []; // at most two: { seed, index, label, word }

  const steps = slider({ name: "Steps", min: 1, max: 16, value: 1, hint: "Jumps from noise to data.", on: all });
  const sampler = choice({ name: "Sampler", on: () => { suitGuidance(); all(); } });
  const guidance = slider({ name: "Guidance", min: 1, max: 10, step: 0.1, value: 1, words: (w) => (w === 1 ? "off" : w.toFixed(1)), on: all });
  const noGuidance = el("p", { class: "hint" });
  const label = choice({ name: "Class", on: all });
  const start = seed({ hint: "The same seed is the same noise, here and in apps.sample.", on: grid });
  const count = slider({ name: "Samples", min: 1, max: 400, value: 80, on: grid });
  const note = status();
  const view = new View({ words: "Samples: choose one to hold its noise", onpick: hold });

  const way = either({ name: "Way through noise", value: "turn",
    options: [["turn", "Turn it"], ["between", "From A to B"]], on: () => { suitWay(); walk(); } });
  const turn = slider({ name: "Turn", min: -180, max: 180, value: 0, words: (v) => `${v}°`, on: one,
    hint: "Towards other noise, which stays noise at every angle." });
  const share = slider({ name: "From A to B", min: 0, max: 100, value: 0, words: (v) => `${v} %`, on: one, hint: " " });
  let direction = 0;
  const other = button("Another direction", () => { direction += 1; walk(); });
  const large = new View({ words: "The held sample, carried along" });
  const strip = new View({ words: "The whole way, from its start to its end" });
  const ends = el("div", { class: "ends", "aria-hidden": "true" }, el("span"), el("span"), el("span"));
  const who = el("p", { class: "who" });
  const release = button("Let go", () => { held = []; suitHeld(); });
  const carried = el("div", { class: "held", hidden: true },
    el("div", { class: "side" }, who, way.node, turn.node, share.node,
      el("div", { class: "row" }, other, release)),
    el("div", { class: "carry" }, large.node, el("div", { class: "strip" }, strip.node, ends)));
  const invite = el("p", { class: "invite" },
    "Choose a sample to hold its noise, and a second one to go from one to the other.");

  const node = el("div", { class: "panel" },
    el("div", { class: "controls" }, steps.node, sampler.node, guidance.node, noGuidance, label.node,
      start.node, count.node),
    el("div", { class: "stage" }, note.node, view.node),
    el("section", { class: "below", "aria-label": "Held noise" }, el("h2", {}, "Held noise"), invite, carried));

  function how() {
    const scale = guidance.input.disabled || guidance.value === 1 ? null : guidance.value;
    return { run: about.run, steps: steps.value, sampler: sampler.value, guidance: scale };
  }

  const chosen = () => (label.value === "" ? null : Number(label.value));

  async function grid() {
    if (!about) return;
    const [run, kind, n, started] = [about, chosen(), count.value, performance.now()];
    note.soon("Drawing… the first picture of each setting is compiled, which takes a moment.");
    try {
      const found = await lines.grid.ask("sample", { ...how(), n, seed: start.value, label: kind });
      if (!found || run !== about) return;
      const columns = Math.min(columnsOf(run, kind), n);
      const names = columns === run.classes.length && kind === null ? run.classes : undefined;
      view.show(found, { columns, names, behind: run.arrays.points });
      const ms = performance.now() - started;
      note.say(`${n.toLocaleString("en")} samples, ${found.nfe} ${found.nfe === 1 ? "evaluation" : "evaluations"} each, ${ms.toFixed(0)} ms`);
      document.dispatchEvent(new CustomEvent("painted", { detail: { panel: "sample", ms } }));
    } catch (error) {
      note.say(error.message, true);
    }
  }

  function all() {
    grid();
    walk();
  }

  function hold(index) {
    const mine = chosen() ?? (about.classes.length ? index % about.classes.length : null);
    const noise = { seed: start.value, index, label: mine };
    if (held.length === 1 && held[0].seed === noise.seed && held[0].index === index) held = [];
    else if (held.length === 1) held = [held[0], noise];
    else held = [noise];
    if (held.length) way.value = held.length === 2 ? "between" : "turn";
    turn.value = 0;
    share.value = 0;
    suitHeld();
  }

  function suitHeld() {
    carried.hidden = held.length === 0;
    invite.hidden = held.length === 2;
    invite.textContent = held.length
      ? "Choose a second sample to go from one to the other."
      : "Choose a sample to hold its noise, and a second one to go from one to the other.";
    who.textContent = held.map(({ seed: s, index, label: k }, i) =>
      `${"AB"[i]}: sample ${index + 1} of seed ${s}${k === null ? "" : `, class ${about.classes[k]}`}`).join(" · ");
    const marks = held.map(({ index }, k) => ({ index, kind: k ? "warm" : "strong", word: "AB"[k] }));
    view.ring(marks);
    suitWay();
    if (held.length) walk();
  }

  function suitWay() {
    const between = way.value === "between";
    way.node.hidden = held.length < 2 || about.noise === "none";
    turn.node.hidden = other.hidden = between;
    share.node.hidden = !between;
    const mine = held.length && held[0].label !== null ? `, read as class ${about.classes[held[0].label]}` : "";
    share.say(about.noise === "none" ? `Straight from one example to the other${mine}.`
      : about.space ? `Along a geodesic${mine}.` : `Along the sphere on which noise lies${mine}.`);
    const words = between ? ["A", "", "B"] : ["−180°", "A", "180°"];
    ends.querySelectorAll("span").forEach((span, k) => (span.textContent = words[k]));
  }

  function body(at) {
    const both = way.value === "between" && held.length === 2;
    return { ...how(), seed: held[0].seed, a: held[0], b: both ? held[1] : null, direction, at };
  }

  const place = () => (way.value === "between" ? share.value / 100 : (turn.value * Math.PI) / 180);

  async function one() {
    if (!about || !held.length) return;
    const [run, started] = [about, performance.now()];
    try {
      const found = await lines.one.ask("walk", body([place()]));
      if (!found || run !== about || !held.length) return;
      if (run.view === "tiles" || run.view === "text") {
        large.show(found, { columns: 1, against: strip.answer?.texts?.[way.value === "between" ? 0 : 4] });
      } else {
        const { data, shape } = found.arrays.points;
        large.rings = [{ at: Array.from(data.subarray(0, shape[1])), kind: "warm", word: "" }];
        large.show(found, { behind: run.arrays.points, path: large.path });
      }
      document.dispatchEvent(new CustomEvent("painted", { detail: { panel: "walk", ms: performance.now() - started } }));
    } catch (error) {
      note.say(error.message, true);
    }
  }

  /** The whole way, and the place on it. */
  async function walk() {
    if (!about || !held.length) return;
    const [run, line] = [about, run_line()];
    const between = way.value === "between" && held.length === 2;
    const many = line ? 33 : STRIP;
    const at = Array.from({ length: many }, (_, k) =>
      between ? k / (many - 1) : ((2 * k) / (many - 1) - 1) * Math.PI * 0.999999);
    try {
      const found = await lines.strip.ask("walk", body(at));
      if (!found || run !== about || !held.length) return;
      if (line) {
        const { data, shape } = found.arrays.points;
        large.path = { data, shape: [1, ...shape] };
      } else {
        strip.show(found, { columns: STRIP, against: found.texts?.[between ? 0 : 4] });
      }
    } catch (error) {
      note.say(error.message, true);
    }
    one();
  }

  const run_line = () => about.view !== "tiles" && about.view !== "text";

  function suitGuidance() {
    const mine = about.samplers.find(({ name }) => name === sampler.value);
    guidance.enable(!mine.no_guidance);
    const able = about.samplers.filter((each) => !each.no_guidance);
    guidance.node.hidden = able.length === 0;
    noGuidance.hidden = able.length === 0 || !mine.no_guidance;
    noGuidance.textContent = "This run has not learned guidance: its jumps have none. Samplers of the ODE have.";
  }

  return {
    node,
    name: "Sample",
    lines,
    show(described) {
      if (about === described) return;
      about = described;
      Object.values(lines).forEach((line) => line.stop());
      held = [];
      const words = { jumps: "jumps", ends: "jumps to data", velocity: "ODE" };
      sampler.fill(about.samplers.map(({ name, needs, noisy }) =>
        [name, `${name} (${words[needs]}${noisy ? ", fresh noise" : ""})`]), about.sampler);
      steps.bounds(1, Math.min(16, about.most_steps));
      steps.enable(about.most_steps > 1);
      guidance.value = about.guidance ?? 1;
      label.fill([["", "all in turn"], ...about.classes.map((name, k) => [k, name])], "");
      label.node.hidden = about.classes.length === 0;
      const points = run_line();
      const pixels = about.shape[0] * (about.shape[1] ?? 1);
      const usual = points ? 2000 : about.view === "text" ? 24 : pixels <= 1024 ? 80 : pixels <= 65536 ? 20 : 4;
      count.bounds(1, Math.min(about.most_n, points ? 4000 : about.view === "text" ? 100 : 400));
      count.value = Math.min(about.most_n, usual);
      suitGuidance();
      for (const each of [view, large, strip]) each.suit(about);
      strip.node.parentNode.hidden = points;
      suitHeld();
      grid();
    },
  };
}
