// The panel Map: particles, a grid and the place under the mouse carried from s to t; for images and
// text a table of jumps.

import { Line } from "./api.js";
import { button, choice, el, seed, short, slider, status, tick } from "./dom.js";
import { Globe, Plane, colour, drawTiles, isDark, onScheme, placeColour, placeOf } from "./draw.js";

const unit = (v) => v.toFixed(2);

/** One square with particles, in a figure with its name. */
class Place {
  constructor(name, words) {
    this.canvas = el("canvas", { class: "picture", role: "img", "aria-label": words });
    this.note = el("span", { class: "soft" });
    this.node = el("figure", {}, el("figcaption", {}, el("strong", {}, name), this.note), this.canvas);
  }
}

export function makeMap() {
  const lines = { plane: new Line("plane"), exact: new Line("exact"), way: new Line("trajectory"), known: new Line("exact-way"), table: new Line("table") };
  let about = null;
  let answer = null;
  let known = null;
  let way = null;
  let at = null; // the place whose trajectory is drawn
  let timer = 0;

  const s = slider({ name: "From s", min: 0, max: 1, step: 0.01, value: 1, words: unit, hint: "1 is noise, 0 is data.", on: carry });
  const t = slider({ name: "To t", min: 0, max: 1, step: 0.01, value: 0, words: unit, on: carry });
  const play = button("Play from s to data", toggle, { class: "main" });
  const jumps = slider({ name: "Many jumps", min: 2, max: 32, value: 8, words: String, on: carry });
  const count = slider({ name: "Particles", min: 50, max: 2000, step: 50, value: 600, on: carry });
  const mesh = tick({ name: "Grid", value: true, on: redraw });
  const label = choice({ name: "Class", on: () => { carry(); table(); } });
  const start = seed({ name: "Seed of the noise", on: () => { carry(); table(); } });
  const which = slider({ name: "Sample", min: 1, max: 100, value: 1, on: table });
  const nodes = slider({ name: "Times", min: 3, max: 10, value: 7, on: table });
  const note = status();

  const before = new Place("At s", "Particles at time s: choose a place to follow it");
  const one = new Place("One jump", "Where one jump carries them");
  const many = new Place("Many jumps", "Where many jumps carry them");
  const exact = new Place("Exact flow", "Where the exact flow carries them");
  const all = [before, one, many, exact];
  const turn = { east: 20, north: 18 };
  const places = el("div", { class: "places" }, all.map(({ node }) => node));
  const hint = el("p", { class: "hint" });
  const sheet = el("div", { class: "sheet" });
  const both = el("p", { class: "hint" });

  const node = el("div", { class: "panel" },
    el("div", { class: "controls" }, s.node, t.node, play, jumps.node, count.node, mesh.node, label.node,
      which.node, nodes.node, start.node),
    el("div", { class: "stage" }, note.node, places, hint, sheet, both));

  const flat = () => about.view !== "tiles" && about.view !== "text";
  const drawn = () => (about.view === "plane" || about.view === "torus" ? about.shape[0] === 2
    : about.view === "globe" && about.space === "sphere");
  const dim = () => about.shape[0];

  function body() {
    return { run: about.run, s: s.value, t: t.value, jumps: jumps.value, n: count.value, seed: start.value,
      label: label.value === "" ? null : Number(label.value) };
  }

  async function carry() {
    if (!about || !flat() || !drawn()) return;
    const run = about;
    note.soon("Carrying… the first time it is compiled, which takes a moment.");
    if (about.exact) follow();
    if (at) trajectory();
    try {
      const found = await lines.plane.ask("plane", body());
      if (!found || run !== about) return;
      answer = found;
      exact.note.textContent = "of the distribution of the data";
      many.note.textContent = `${jumps.value} of them; ${short(found.apart, 2)} from one jump (rms)`;
      note.say(`${count.value} particles from s = ${unit(s.value)} to t = ${unit(t.value)}`);
      both.textContent = t.value > s.value
        ? "t above s is the way back to noise, which a run knows well only if it was trained for both directions (apps.train --plugin.both)." : "";
      redraw();
      document.dispatchEvent(new CustomEvent("painted", { detail: { panel: "map" } }));
    } catch (error) {
      note.say(error.message, true);
    }
  }

  async function follow() {
    const run = about;
    try {
      const found = await lines.exact.ask("exact", body());
      if (!found || run !== about) return;
      known = found;
      redraw();
    } catch (error) {
      exact.note.textContent = error.message;
    }
  }

  function trajectory() {
    along(lines.way, {});
    if (about.exact) along(lines.known, { exact: true });
  }

  async function along(line, more) {
    const run = about;
    try {
      const found = await line.ask("trajectory", { ...body(), ...more, at });
      if (!found || run !== about || !at) return;
      way = { ...way, ...found.arrays };
      redraw();
    } catch (error) {
      note.say(error.message, true);
    }
  }

  function redraw() {
    if (!answer || !about || !flat()) return;
    const { arrays } = answer;
    const start_ = arrays.before;
    const dark = isDark();
    const d = dim();
    const scale = about.view === "plane" ? 2.5 : about.view === "torus" ? Math.PI : 1;
    const paint = (k) => placeColour(start_.data[d * k] / scale, start_.data[d * k + 1] / scale, dark);
    const pairs = [[before, arrays.before, arrays.lines_before, null], [one, arrays.one, arrays.lines_one, "one"],
      [many, arrays.many, arrays.lines_many, "many"],
      [exact, known?.arrays.exact, known?.arrays.lines_exact, "exact"]];
    for (const [place, points, mesh_, name] of pairs) {
      if (place.node.hidden || !place.canvas.clientWidth || !points) continue;
      const { space } = place;
      space.begin();
      if (mesh.value) space.lines(mesh_, colour("soft"), 0.8, 0.55);
      space.dots(points, paint, 2.6, 0.9);
      if (at && !name) space.ring(...at, colour("ink"), 6);
      if (at && name && way?.[name]) {
        const { data, shape } = way[name];
        space.lines(way[name], colour("ink"), 1.8);
        space.ring(...data.subarray(data.length - shape[2]), colour("ink"), 5);
      }
      space.end();
    }
  }

  function toggle() {
    if (timer) return stop();
    play.textContent = "Stop";
    const begun = performance.now();
    const from = s.value > 0 ? s.value : 1;
    s.value = from;
    const step = () => {
      const share = Math.min(1, (performance.now() - begun) / 3500);
      t.value = from * (1 - share);
      carry();
      if (share < 1) timer = requestAnimationFrame(step);
      else stop();
    };
    timer = requestAnimationFrame(step);
  }

  function stop() {
    cancelAnimationFrame(timer);
    timer = 0;
    play.textContent = "Play from s to data";
  }

  /** Follows the place under the mouse, or the one to which the arrow keys go. */
  function pointed(canvas) {
    canvas.tabIndex = 0;
    const to = (place) => {
      if (!about.two_times) return;
      at = place;
      trajectory();
    };
    const find = (event) => before.space.from(...placeOf(event, canvas));
    let down = null;
    canvas.addEventListener("pointermove", (event) => {
      if (event.pointerType === "mouse" && answer && about.view !== "globe") to(find(event));
    });
    canvas.addEventListener("pointerdown", (event) => (down = placeOf(event, canvas)));
    canvas.addEventListener("click", (event) => {
      const [px, py] = placeOf(event, canvas);
      const still = down && Math.hypot(px - down[0], py - down[1]) < 5;
      if (answer && still && find(event)) to(find(event));
    });
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
      if (!step || !answer || about.view === "globe") return;
      event.preventDefault();
      const [x, y] = at ?? [0, 0];
      to([x + 0.15 * step[0], y + 0.15 * step[1]]);
    });
  }
  pointed(before.canvas);
  onScheme(redraw);
  new ResizeObserver(redraw).observe(places);

  async function table() {
    if (!about || flat()) return;
    const run = about;
    note.soon("Drawing the table…");
    try {
      const found = await lines.table.ask("table", { run: about.run, nodes: nodes.value, index: which.value - 1,
        seed: start.value, label: label.value === "" ? (about.classes.length ? (which.value - 1) % about.classes.length : null) : Number(label.value) });
      if (!found || run !== about) return;
      drawTable(found);
      note.say("F(F(z, 1, s), s, t): a jump from noise to s, then one from s to t.");
      document.dispatchEvent(new CustomEvent("painted", { detail: { panel: "map" } }));
    } catch (error) {
      note.say(error.message, true);
    }
  }

  function drawTable({ arrays, units, pairs, texts }) {
    const n = units.length;
    const off = arrays.off.data;
    const worst = Math.max(1e-9, ...off.filter(Number.isFinite));
    const head = el("tr", {}, el("th", { scope: "col" }, "s ↓  t →"), units.map((u) => el("th", { scope: "col" }, u.toFixed(2))));
    const rows = units.map((u, i) => el("tr", {}, el("th", { scope: "row" }, u.toFixed(2)), units.map((_, j) => {
      if (j < i) return el("td");
      const k = pairs.findIndex(([a, b]) => a === i && b === j);
      const far = off[i * n + j];
      const cell = el("td", {}, texts ? el("code", {}, texts[k]) : tile(arrays.tiles, k),
        el("span", { class: "far" }, i === 0 ? "" : short(far, 2)));
      if (i > 0) cell.style.setProperty("--share", `${Math.round((far / worst) * 100)}%`);
      return cell;
    })));
    sheet.style.setProperty("--n", n);
    sheet.replaceChildren(el("table", { class: texts ? "jumps words" : "jumps" }, el("caption", {},
      "Of a perfect map every column has one picture. The number says how far a jump from s is from the one from noise (rms)."),
    el("thead", {}, head), el("tbody", {}, rows)));
  }

  function tile(tiles, k) {
    const [, high, wide, depth] = tiles.shape;
    const size = high * wide * depth;
    const canvas = el("canvas", { class: wide < 64 && "pixels", "aria-hidden": "true" });
    drawTiles(canvas, { data: tiles.data.subarray(k * size, (k + 1) * size), shape: [1, high, wide, depth] }, 1);
    return canvas;
  }

  return {
    node,
    name: "Map",
    lines,
    hide: stop,
    show(described) {
      if (about === described) return redraw();
      about = described;
      Object.values(lines).forEach((line) => line.stop());
      stop();
      answer = known = way = at = null;
      sheet.replaceChildren();
      nodes.bounds(3, Math.max(3, Math.min(10, Math.floor((Math.sqrt(8 * about.most_n + 1) - 1) / 2))));
      const points = flat();
      const able = !points || drawn();
      label.fill([[ "", points ? (about.all_classes ? "all together" : about.classes[0] ?? "") : "in turn"],
        ...about.classes.map((name, k) => [k, name])], "");
      label.node.hidden = about.classes.length === 0;
      for (const each of [s, t, jumps, count]) each.node.hidden = !points || !able;
      for (const each of [play, mesh.node, places, hint]) each.hidden = !points || !able;
      for (const each of [which, nodes]) each.node.hidden = points;
      sheet.hidden = points;
      both.textContent = "";
      start.node.hidden = !able;
      if (!able) {
        note.say("The plane of a map is drawn for points of two numbers, on the sphere and on the torus; this run has others. Sample shows them.");
        return;
      }
      if (!points && !about.two_times) {
        note.say("This run has learned jumps to the data alone: it has no table of others. Sample shows them.");
        return;
      }
      for (const each of [s, t, jumps]) each.enable(about.two_times);
      play.disabled = !about.two_times;
      many.node.hidden = !about.two_times;
      if (!about.two_times) [s.value, t.value] = [1, 0];
      exact.node.hidden = !about.exact;
      places.classList.toggle("four", about.exact);
      exact.note.textContent = "of the distribution of the data";
      before.note.textContent = about.space ? "" : "in network values";
      hint.textContent = about.view === "globe"
        ? "Drag a globe, or use the arrow keys, to turn all of them; click the first to follow a place. Colours say where a particle is at s."
        : "Point at a place at s, or focus the square and use the arrow keys, to follow it. Colours say where a particle is at s.";
      if (!about.two_times) hint.textContent = "This run has learned jumps to the data alone. Colours say where a particle is at s.";
      if (points) for (const place of all) suit(place);
      if (points) carry();
      else table();
    },
  };

  function suit(place) {
    if (about.view === "globe") {
      place.space = new Globe(place.canvas, turn);
      if (!place.turns) place.space.turnable(() => about.view === "globe" && redraw());
      place.turns = true;
    } else {
      const side = about.view === "torus" ? Math.PI : 3.2;
      place.space = new Plane(place.canvas, [-side, side, -side, side], about.view === "torus");
    }
  }
}
