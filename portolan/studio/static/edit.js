// The panel Edit: examples carried to noise and back, and changed in between.

import { Line } from "./api.js";
import { choice, el, slider, status } from "./dom.js";
import { View } from "./view.js";

const EDITS = [["round-trip", "There and back"], ["interpolate", "From one to another"], ["classes", "Every class"], ["variations", "Some noise"]];
const WORDS = {
  "round-trip": "Each example carried to noise, and back to data.",
  interpolate: "From the noise of an example to that of another of its class, WAY.",
  classes: "The noise of each example, read as every class.",
  variations: "Noise added up to time t, and removed again (SDEdit): the more noise, the less is left of the example.",
};

export function makeEdit() {
  const lines = { edit: new Line("edit") };
  let about = null;
  const kind = choice({ name: "Edit", options: EDITS, value: "round-trip", on: () => { suit(); go(); } });
  const sampler = choice({ name: "Way to noise", on: go });
  const steps = slider({ name: "Steps from end to end", min: 1, max: 16, value: 4, on: go });
  const noise = slider({ name: "Most noise, t", min: 0.1, max: 1, step: 0.05, value: 0.8, words: (v) => v.toFixed(2), on: go });
  const first = slider({ name: "First example", min: 0, max: 500, value: 0, on: go });
  const count = slider({ name: "Examples", min: 1, max: 12, value: 8, on: go });
  const note = status();
  const words = el("p", { class: "hint" });
  const view = new View({ words: "Examples in rows, stages in columns" });
  const squares = el("div", { class: "places" });
  const node = el("div", { class: "panel" },
    el("div", { class: "controls" }, kind.node, sampler.node, steps.node, noise.node, first.node, count.node),
    el("div", { class: "stage" }, note.node, words, view.node, squares));

  function suit() {
    const way = about?.space ? "along a geodesic" : "along the sphere on which noise lies";
    words.textContent = WORDS[kind.value].replace("WAY", way);
    noise.node.hidden = kind.value !== "variations";
  }

  async function go() {
    if (!about) return;
    const run = about;
    note.soon("Carrying… the first time it is compiled, which takes a moment.");
    const levels = [0.25, 0.5, 0.75, 1].map((share) => Number((share * noise.value).toFixed(3)));
    try {
      const found = await lines.edit.ask("edit", { run: run.run, edit: kind.value, sampler: sampler.value, steps: steps.value,
        first: first.value, n: count.value, noise: levels });
      if (!found || run !== about) return;
      draw(found);
      const errors = found.round_trip === undefined ? "" : `; relative error ${(100 * found.round_trip).toFixed(1)} %, worst ${(100 * found.round_trip_worst).toFixed(1)} %`;
      note.say(`${found.rows} examples${errors}`);
      document.dispatchEvent(new CustomEvent("painted", { detail: { panel: "edit" } }));
    } catch (error) {
      squares.replaceChildren();
      view.clear();
      note.say(error.message, true);
    }
  }

  function draw(found) {
    const { rows, stages, names, arrays } = found;
    view.node.hidden = about.view !== "tiles" && about.view !== "text";
    squares.hidden = !view.node.hidden;
    view.node.style.maxWidth = about.view === "tiles" ? `${Math.min(44, 5 * stages)}rem` : "";
    if (about.view === "tiles") view.show(found, { columns: stages, names });
    else if (about.view === "text") view.show({ texts: found.texts.map((text, k) => `${names[k % stages].trim().padEnd(6)} ${text}`) }, {});
    else points(arrays.points, rows, stages, names);
  }

  function points({ data, shape }, rows, stages, names) {
    const dim = shape[1];
    if (squares.childElementCount !== stages) {
      squares.replaceChildren(...names.map(() => {
        const each = new View({ words: "One stage" });
        const figure = el("figure", {}, el("figcaption", {}, el("strong", {})), each.node);
        figure.view = each;
        each.suit(about);
        return figure;
      }));
    }
    [...squares.children].forEach((figure, j) => {
      const some = new Float32Array(rows * dim);
      for (let i = 0; i < rows; i += 1) some.set(data.subarray((i * stages + j) * dim, (i * stages + j + 1) * dim), i * dim);
      figure.querySelector("strong").textContent = names[j];
      figure.view.show({ arrays: { points: { data: some, shape: [rows, dim] } } }, { behind: names[j] === "noise" ? null : about.arrays.points });
    });
  }

  return {
    node,
    name: "Edit",
    lines,
    show(described) {
      if (about === described) return view.redraw();
      about = described;
      lines.edit.stop();
      squares.replaceChildren();
      view.suit(about);
      const ways = about.samplers.filter(({ noisy }) => !noisy).map(({ name }) => name);
      sampler.fill(ways.map((name) => [name, name]), ways.includes(about.sampler) ? about.sampler : ways[0]);
      kind.fill(EDITS.filter(([name]) => name !== "classes" || about.classes.length > 1), "round-trip");
      const most = Math.max(1, Math.min(12, Math.floor(about.most_n / 12))); // as portolan/studio/editing.py has it
      count.bounds(1, most);
      count.value = about.view === "plane" ? most : Math.min(8, most);
      suit();
      go();
    },
  };
}
