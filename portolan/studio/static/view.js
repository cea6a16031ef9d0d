// One picture of samples, whatever they are: a grid of tiles, points, or lines of text.

import { el } from "./dom.js";
import { Globe, Plane, colour, drawTiles, nearest, onScheme, placeOf } from "./draw.js";

/** How many columns a grid of tiles has: one a class, where they take turns. */
export function columnsOf(about, label) {
  const classes = about.classes.length;
  return label === null && classes > 1 && classes <= 10 ? classes : 10;
}

/** A picture that fills its place. `onpick(index)` is called with the number of a sample. */
export class View {
  constructor({ words, onpick, turn } = {}) {
    this.canvas = el("canvas", { class: "picture", role: "img", "aria-label": words ?? "samples" });
    this.heads = el("div", { class: "heads", "aria-hidden": "true" });
    this.list = el("ol", { class: "texts" });
    this.marks = el("div", { class: "marks", "aria-hidden": "true" });
    this.node = el("div", { class: "view" }, this.heads,
      el("div", { class: "stack" }, this.canvas, this.marks), this.list);
    this.onpick = onpick;
    this.turn = turn ?? { east: 20, north: 18 };
    this.rings = [];
    this.place = 0;
    this.answer = null;
    if (onpick) this.pickable();
    onScheme(() => this.redraw());
    new ResizeObserver(() => this.kind !== "tiles" && this.redraw()).observe(this.canvas);
  }

  /** Chooses the kind of picture for a run. */
  suit(about) {
    this.about = about;
    this.kind = about.view;
    this.answer = null;
    this.rings = [];
    this.node.dataset.kind = this.kind;
    this.marks.replaceChildren();
    this.heads.replaceChildren();
    this.list.replaceChildren();
    this.space = this.kind === "globe" ? new Globe(this.canvas, this.turn)
      : new Plane(this.canvas, about.limits ?? [-3, 3, -3, 3], this.kind === "torus");
    if (this.kind === "torus") this.space.limits = [-Math.PI, Math.PI, -Math.PI, Math.PI];
    if (this.kind === "globe" && !this.turned) {
      this.turned = true;
      this.space.turnable(() => this.redraw());
    }
  }

  /** Draws an answer of the server. `options`: columns and their names, points behind, paths. */
  show(answer, options = {}) {
    this.answer = answer;
    this.options = options;
    this.redraw();
  }

  /** Shows nothing. */
  clear() {
    this.answer = null;
    this.canvas.width = this.canvas.height = 1;
    this.list.replaceChildren();
    this.heads.replaceChildren();
    this.named = null;
  }

  redraw() {
    const { answer, kind, options } = this;
    if (!answer) return;
    if (kind === "tiles") this.tiles(answer.arrays.tiles, options);
    else if (kind === "text") this.texts(answer.texts, options);
    else this.points(answer.arrays.points, options);
  }

  tiles(tiles, { columns, names }) {
    this.columns = columns;
    this.count = tiles.shape[0];
    this.canvas.classList.toggle("pixels", tiles.shape[2] < 64);
    this.tile = drawTiles(this.canvas, tiles, columns);
    if (this.heads.childElementCount !== (names?.length ?? 0) || this.named !== names) {
      this.named = names;
      this.heads.replaceChildren(...(names ?? []).map((name) => el("span", {}, name)));
      this.heads.style.gridTemplateColumns = `repeat(${columns}, minmax(0, 1fr))`;
    }
    this.markTiles();
  }

  /** Frames around the tiles of rings, and around the one that the keyboard is at. */
  markTiles() {
    const { wide, high, gap } = this.tile;
    const [w, h] = [this.canvas.width, this.canvas.height];
    const frames = this.rings.filter((ring) => ring.index < this.count)
      .map((ring) => ({ index: ring.index, kind: ring.kind, word: ring.word }));
    if (this.focused) frames.push({ index: this.place, kind: "at", word: "" });
    this.marks.replaceChildren(...frames.map(({ index, kind, word }) => {
      const frame = el("span", { class: kind }, word);
      const [x, y] = [index % this.columns, Math.floor(index / this.columns)];
      frame.style.left = `${(100 * x * (wide + gap)) / w}%`;
      frame.style.top = `${(100 * y * (high + gap)) / h}%`;
      frame.style.width = `${(100 * wide) / w}%`;
      frame.style.height = `${(100 * high) / h}%`;
      return frame;
    }));
  }

  points(points, { behind, path }) {
    if (!this.canvas.clientWidth) return;
    const { space } = this;
    const many = points.shape[0];
    space.begin();
    space.dots(behind, colour("faint"), 2.2, 0.9);
    space.dots(points, colour("accent"), many > 1500 ? 2 : many > 300 ? 2.6 : many > 1 ? 4 : 8, 0.8);
    if (path) space.lines(path, colour("warm"), 2, 0.9);
    const dim = points.shape[1];
    for (const { index, at, kind, word } of this.rings) {
      if (at) space.ring(...at, colour(kind), 6, word);
      else if (index < many) {
        space.ring(...points.data.subarray(dim * index, dim * index + dim), colour(kind), 6, word);
      }
    }
    space.end();
  }

  texts(texts, { against }) {
    const rings = new Map(this.rings.map((ring) => [ring.index, ring]));
    this.list.replaceChildren(...texts.map((text, k) => {
      const line = this.onpick
        ? el("button", { type: "button", onclick: () => this.onpick(k) }, ...differing(text, against))
        : el("span", {}, ...differing(text, against));
      const ring = rings.get(k);
      if (ring) line.dataset.held = ring.word;
      return el("li", {}, line);
    }));
  }

  /** Marks samples: [{ index or at, kind, word }]. */
  ring(rings) {
    this.rings = rings;
    this.redraw();
  }

  pickable() {
    const { canvas } = this;
    canvas.tabIndex = 0;
    let down = null;
    canvas.addEventListener("pointerdown", (event) => (down = placeOf(event, canvas)));
    canvas.addEventListener("click", (event) => {
      const [px, py] = placeOf(event, canvas);
      if (down && Math.hypot(px - down[0], py - down[1]) > 5) return; // the globe was turned
      const found = this.under(px, py);
      if (found >= 0) this.onpick(found);
    });
    canvas.addEventListener("focus", () => this.focus(canvas.matches(":focus-visible")));
    canvas.addEventListener("blur", () => this.focus(false));
    canvas.addEventListener("keydown", (event) => this.key(event));
  }

  under(px, py) {
    if (!this.answer) return -1;
    if (this.kind !== "tiles") return nearest(this.space, this.answer.arrays.points, px, py);
    const { clientWidth, clientHeight, width, height } = this.canvas;
    const x = Math.floor((px / clientWidth) * (width / (this.tile.wide + this.tile.gap)));
    const y = Math.floor((py / clientHeight) * (height / (this.tile.high + this.tile.gap)));
    const found = y * this.columns + x;
    return x < this.columns && found < this.count ? found : -1;
  }

  focus(yes) {
    this.focused = yes;
    if (this.kind === "tiles" && this.answer) this.markTiles();
  }

  key(event) {
    if (this.kind !== "tiles" || !this.answer) return;
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns }[event.key];
    if (step) {
      event.preventDefault();
      const next = this.place + step;
      if (next >= 0 && next < this.count) this.place = next;
      this.focus(true);
    } else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      this.onpick(this.place);
    }
  }
}

/** A text whose letters that differ from those of another are marked. */
function differing(text, against) {
  if (against === undefined) return [text];
  const [letters, others] = [Array.from(text), Array.from(against)];
  return letters.map((letter, k) => (letter === others[k] ? letter : el("mark", {}, letter)));
}
