// The panel Inspect: the certificate of a run as heat maps over s and t.

import { Line } from "./api.js";
import { button, el, short, status } from "./dom.js";
import { colour, isDark, onScheme, placeOf, sheet } from "./draw.js";

const NAMES = {
  eulerian: ["Eulerian rule", "moving the start along the flow"], lagrangian: ["Lagrangian rule", "moving the end along the flow"],
  compositional: ["Compositional rule", "one jump against two"], round_trip: ["There and back", "from s to t, and to s again"],
  ode: ["Distance to its ODE", "one jump against the flow of its velocity"], end: ["Cost at the data", "that distance, carried on to the data"],
};

export function makeInspect() {
  const lines = { certificate: new Line("certificate") };
  let about = null;
  let found = null;
  let maps = [];
  const note = status();
  const measure = button("Measure now", () => get("measure"), { class: "main" });
  const numbers = el("dl", { class: "numbers" });
  const grid = el("div", { class: "heats" });
  const times = el("div", { class: "sheet" });
  const none = el("p", {}, "This run has no certificate yet. It holds the map against its own rules and its own ODE at all pairs of times; ",
    "here on a few examples, by ", el("code", {}, "apps.inspect --certify"), " on more, which also keeps it.");
  const intro = el("div", { class: "intro" }, none, measure);
  const node = el("div", { class: "panel plain alone" }, el("div", { class: "stage" }, note.node, intro, numbers, grid, times));

  async function get(job) {
    const run = about;
    if (job === "measure") note.say("Measuring… this takes about half a minute, in which the other panels wait.");
    measure.disabled = job === "measure";
    try {
      const answer = await lines.certificate.ask(job, { run: run.run });
      if (!answer || run !== about) return;
      found = answer.found ? answer : null;
      intro.hidden = answer.found;
      note.say(answer.found ? `${answer.source === "measured now" ? "Measured now" : `From ${answer.source}`}, ${answer.examples} examples. Values are root mean squares, in network values; stronger colour is worse.` : "");
      if (answer.found) make();
      document.dispatchEvent(new CustomEvent("painted", { detail: { panel: "inspect" } }));
    } catch (error) {
      note.say(error.message, true);
    }
    measure.disabled = false;
  }

  function make() {
    const number = (name, value, more) => el("div", {}, el("dt", {}, name), el("dd", {}, value, el("small", {}, more)));
    numbers.replaceChildren(
      number("One jump to the ODE's end", short(found.distance), "on average over examples; bounds Wasserstein-2"),
      number("Gronwall's bound", short(found.bound), "from residuals and slopes"));
    maps = Object.keys(NAMES).map((kind) => heat(kind));
    grid.replaceChildren(...maps.map((map) => map.node));
    maps.forEach((map) => map.draw());
    times.replaceChildren(el("table", { class: "plain" }, el("caption", {}, "The best times to stop at, by the number of jumps (apps.sample --times certified)"),
      el("thead", {}, el("tr", {}, el("th", {}, "Jumps"), el("th", {}, "Times, from noise 1 to data 0"))),
      el("tbody", {}, Object.entries(found.times).map(([k, way]) =>
        el("tr", {}, el("td", {}, k), el("td", {}, way.map((t) => short(t, 3)).join("  ")))))));
  }

  function heat(kind) {
    const canvas = el("canvas", { class: "heat", tabindex: 0, role: "img", "aria-label": `${NAMES[kind][0]} over s and t` });
    const { data, shape } = found.arrays[kind];
    const n = shape[0];
    const good = data.filter((v) => Number.isFinite(v) && v > 0);
    const [low, high] = [Math.log(Math.min(...good, 1)), Math.log(Math.max(...good, 1e-9))];
    const hint = `${NAMES[kind][1]}; ${short(Math.exp(low), 2)} to ${short(Math.exp(high), 2)}`;
    const value = el("span", { class: "soft" }, hint);
    const figure = el("figure", {}, el("figcaption", {}, el("strong", {}, NAMES[kind][0]), value), canvas);
    let at = null;

    function draw() {
      if (!canvas.clientWidth) return;
      const { context, width, height } = sheet(canvas);
      const [left, below] = [30, 22];
      const [w, h] = [(width - left) / n, (height - below) / n];
      const [light, dark] = isDark() ? [[44, 52, 60], [255, 157, 92]] : [[236, 232, 228], [160, 52, 4]];
      for (let i = 0; i < n; i += 1) {
        for (let j = 0; j < n; j += 1) {
          const v = data[i * n + j];
          if (!Number.isFinite(v)) continue;
          const share = v > 0 && high > low ? Math.min(1, Math.max(0, (Math.log(v) - low) / (high - low))) : 0;
          context.fillStyle = `rgb(${light.map((c, k) => Math.round(c + share * (dark[k] - c))).join(" ")})`;
          const [x0, y0] = [Math.round(left + j * w), Math.round(i * h)];
          context.fillRect(x0, y0, Math.round(left + (j + 1) * w) - x0 - 1, Math.round((i + 1) * h) - y0 - 1);
        }
      }
      context.font = "11px system-ui, sans-serif";
      context.fillStyle = colour("soft");
      context.textAlign = "right";
      context.textBaseline = "middle";
      const words = [[0, "1"], [Math.floor(n / 2), short(found.units[Math.floor(n / 2)], 2)], [n - 1, "0"]];
      for (const [k, word] of words) context.fillText(word, left - 6, (k + 0.5) * h);
      context.fillText("s", left - 6, (n / 4 + 0.5) * h);
      context.textAlign = "center";
      context.textBaseline = "top";
      for (const [k, word] of words) context.fillText(word, left + (k + 0.5) * w, height - below + 6);
      context.fillText("t", left + (n / 4 + 0.5) * w, height - below + 6);
      if (at) {
        context.strokeStyle = colour("ink");
        context.lineWidth = 2;
        context.strokeRect(left + at[1] * w, at[0] * h, w, h);
      }
    }

    function point(place) {
      at = place;
      const v = at ? data[at[0] * n + at[1]] : NaN;
      value.textContent = Number.isFinite(v)
        ? `${short(v)} from s = ${short(found.units[at[0]], 3)} to t = ${short(found.units[at[1]], 3)}` : hint;
      draw();
    }
    canvas.addEventListener("pointermove", (event) => {
      const [px, py] = placeOf(event, canvas);
      const j = Math.floor(((px - 30) / (canvas.clientWidth - 30)) * n);
      const i = Math.floor((py / (canvas.clientHeight - 22)) * n);
      point(i >= 0 && j >= 0 && i < n && j < n ? [i, j] : null);
    });
    canvas.addEventListener("pointerleave", () => point(null));
    canvas.addEventListener("blur", () => point(null));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
      if (!step) return;
      event.preventDefault();
      const [i, j] = at ?? [0, n - 1];
      point([Math.min(n - 1, Math.max(0, i + step[0])), Math.min(n - 1, Math.max(0, j + step[1]))]);
    });
    new ResizeObserver(draw).observe(canvas);
    return { node: figure, draw };
  }

  onScheme(() => maps.forEach((map) => map.draw()));

  return {
    node,
    name: "Inspect",
    lines,
    /** For a run that is not open yet: its file is there all the same. */
    without(run) {
      this.show({ run });
    },
    show(described) {
      const again = about?.run === described.run;
      if (again && (about.step ?? described.step) === described.step) {
        about.step = described.step;
        return;
      }
      about = { run: described.run, step: described.step };
      found = null;
      lines.certificate.stop();
      for (const each of [numbers, grid, times]) each.replaceChildren();
      get("certificate");
    },
  };
}
