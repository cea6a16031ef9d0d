// Pictures on canvases: tiles of pixels, points of the plane and of the torus, the globe, curves.

/** A colour of the style sheet, which in a notebook is that of the panel alone. */
export function colour(name) {
  const root = document.querySelector(".portolan-play") ?? document.documentElement;
  return getComputedStyle(root).getPropertyValue(`--${name}`).trim();
}

const scheme = matchMedia("(prefers-color-scheme: dark)");

/** Calls the listener when light and dark change. */
export function onScheme(listener) {
  scheme.addEventListener("change", listener);
}

/** Tiles in rows. `tiles` are bytes (n, high, wide, 1 or 3), drawn `scale` times as large, with
 *  `gap` pixels between; where nothing is drawn the page shows. Returns the sizes. */
export function drawTiles(canvas, tiles, columns) {
  const [n, high, wide, depth] = tiles.shape;
  const scale = Math.max(1, Math.floor(56 / wide));
  const gap = columns > 1 ? 4 : 0;
  const [tileWide, tileHigh] = [wide * scale, high * scale];
  const rows = Math.ceil(n / columns);
  const width = columns * (tileWide + gap) - gap;
  const height = rows * (tileHigh + gap) - gap;
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  const context = canvas.getContext("2d");
  const page = context.createImageData(width, height);
  const out = new Uint32Array(page.data.buffer);
  const { data } = tiles;
  for (let k = 0; k < n; k += 1) {
    const left = (k % columns) * (tileWide + gap);
    const top = Math.floor(k / columns) * (tileHigh + gap);
    let from = k * high * wide * depth;
    for (let y = 0; y < high; y += 1) {
      const first = (top + y * scale) * width + left;
      for (let x = 0, to = first; x < wide; x += 1, to += scale, from += depth) {
        const r = data[from];
        const g = depth === 3 ? data[from + 1] : r;
        const b = depth === 3 ? data[from + 2] : r;
        out.fill(0xff000000 | (b << 16) | (g << 8) | r, to, to + scale);
      }
      for (let again = 1; again < scale; again += 1) {
        out.copyWithin(first + again * width, first, first + tileWide);
      }
    }
  }
  context.putImageData(page, 0, 0);
  return { wide: tileWide, high: tileHigh, gap };
}

/** The context of a canvas in CSS pixels, cleared, and its size. */
export function sheet(canvas) {
  const ratio = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  const [w, h] = [Math.max(1, Math.round(width * ratio)), Math.max(1, Math.round(height * ratio))];
  if (canvas.width !== w || canvas.height !== h) {
    canvas.width = w;
    canvas.height = h;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return { context, width, height };
}

/** Round numbers inside of an interval, about `most` of them. */
export function ticks(low, high, most = 5) {
  const rough = (high - low) / most;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((size) => size >= rough);
  const found = [];
  for (let k = Math.ceil(low / step); k * step <= high * (1 + 1e-9); k += 1) {
    found.push(Number((k * step).toPrecision(6)));
  }
  return found;
}

/** The colours of places in a square, so that one sees where each particle came from. */
export function placeColour(x, y, dark) {
  const hue = ((Math.atan2(y, x) * 180) / Math.PI + 360) % 360;
  const far = Math.min(1, Math.hypot(x, y));
  const light = dark ? 72 - 14 * far : 52 - 12 * far;
  return `hsl(${hue.toFixed(0)} ${(35 + 40 * far).toFixed(0)}% ${light.toFixed(0)}%)`;
}

export const isDark = () => scheme.matches;

/** A square of the plane with its frame; `at` turns units into pixels and `from` back. */
export class Plane {
  constructor(canvas, limits, degrees = false) {
    this.canvas = canvas;
    this.limits = limits;
    this.degrees = degrees;
  }

  begin() {
    Object.assign(this, sheet(this.canvas));
    const { context, width, height } = this;
    const pad = { left: 34, right: 6, top: 6, bottom: 20 };
    const [x0, x1, y0, y1] = this.limits;
    this.box = [pad.left, pad.top, width - pad.left - pad.right, height - pad.top - pad.bottom];
    const [bx, by, bw, bh] = this.box;
    this.at = (x, y) => [bx + ((x - x0) / (x1 - x0)) * bw, by + (1 - (y - y0) / (y1 - y0)) * bh];
    this.from = (px, py) => [x0 + ((px - bx) / bw) * (x1 - x0), y0 + (1 - (py - by) / bh) * (y1 - y0)];
    context.fillStyle = colour("paper");
    context.fillRect(bx, by, bw, bh);
    context.font = "11px system-ui, sans-serif";
    context.fillStyle = colour("soft");
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    const words = (v) => (this.degrees ? `${Math.round((v * 180) / Math.PI)}°` : String(v));
    const places = (low, high) =>
      this.degrees ? [-Math.PI, -Math.PI / 2, 0, Math.PI / 2, Math.PI] : ticks(low, high);
    context.textAlign = "center";
    context.textBaseline = "top";
    for (const v of places(x0, x1)) {
      const [px] = this.at(v, y0);
      context.fillText(words(v), Math.min(Math.max(px, bx + 8), bx + bw - 10), by + bh + 5);
    }
    context.textAlign = "right";
    context.textBaseline = "middle";
    for (const v of places(y0, y1)) {
      const [, py] = this.at(x0, v);
      context.fillText(words(v), bx - 5, Math.min(Math.max(py, by + 5), by + bh - 5));
    }
    context.save();
    context.beginPath();
    context.rect(bx, by, bw, bh);
    context.clip();
    return this;
  }

  end() {
    const { context, box } = this;
    context.restore();
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    context.strokeRect(box[0] + 0.5, box[1] + 0.5, box[2] - 1, box[3] - 1);
  }

  /** Dots; `paint` is a colour, or a function of the number of a point. */
  dots(points, paint, size = 2.2, alpha = 0.75) {
    if (!points) return;
    const { context } = this;
    const { data, shape } = points;
    context.globalAlpha = alpha;
    if (typeof paint === "string") context.fillStyle = paint;
    for (let k = 0; k < shape[0]; k += 1) {
      const [px, py] = this.at(data[2 * k], data[2 * k + 1]);
      if (typeof paint !== "string") context.fillStyle = paint(k);
      context.fillRect(px - size / 2, py - size / 2, size, size);
    }
    context.globalAlpha = 1;
  }

  /** Lines (k, m, 2); on the torus one that crosses the edge is broken there. */
  lines(points, paint, width = 1, alpha = 1) {
    if (!points) return;
    const { context } = this;
    const { data, shape } = points;
    const [k, m] = shape;
    context.globalAlpha = alpha;
    context.strokeStyle = paint;
    context.lineWidth = width;
    context.beginPath();
    for (let i = 0; i < k; i += 1) {
      for (let j = 0; j < m; j += 1) {
        const at = 2 * (i * m + j);
        const broken = this.degrees && j > 0 &&
          Math.hypot(data[at] - data[at - 2], data[at + 1] - data[at - 1]) > Math.PI;
        const [px, py] = this.at(data[at], data[at + 1]);
        if (j === 0 || broken) context.moveTo(px, py);
        else context.lineTo(px, py);
      }
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  /** A ring around one place. */
  ring(x, y, paint, radius = 6, word = "") {
    const { context } = this;
    const [px, py] = this.at(x, y);
    mark(context, px, py, paint, radius, word);
  }
}

function mark(context, px, py, paint, radius, word) {
  context.beginPath();
  context.arc(px, py, radius, 0, 2 * Math.PI);
  context.lineWidth = 4;
  context.strokeStyle = colour("paper");
  context.stroke();
  context.lineWidth = 2;
  context.strokeStyle = paint;
  context.stroke();
  if (!word) return;
  context.font = "600 12px system-ui, sans-serif";
  context.fillStyle = paint;
  context.textAlign = "left";
  context.textBaseline = "middle";
  context.fillText(word, px + radius + 3, py - radius);
}

/** The globe, seen from afar: turned by dragging, or by the arrow keys. */
export class Globe {
  constructor(canvas, turn = { east: 20, north: 18 }) {
    this.canvas = canvas;
    this.turn = turn;
  }

  begin() {
    Object.assign(this, sheet(this.canvas));
    const { context, width, height } = this;
    this.radius = Math.min(width, height) / 2 - 6;
    this.middle = [width / 2, height / 2];
    const [a, b] = [(this.turn.east * Math.PI) / 180, (this.turn.north * Math.PI) / 180];
    const [ca, sa, cb, sb] = [Math.cos(a), Math.sin(a), Math.cos(b), Math.sin(b)];
    this.view = (x, y, z) => {
      const [front, right] = [ca * x + sa * y, -sa * x + ca * y];
      return [right, -sb * front + cb * z, cb * front + sb * z];
    };
    context.beginPath();
    context.arc(...this.middle, this.radius, 0, 2 * Math.PI);
    context.fillStyle = colour("paper");
    context.fill();
    this.graticule();
    context.beginPath();
    context.arc(...this.middle, this.radius, 0, 2 * Math.PI);
    context.strokeStyle = colour("line");
    context.lineWidth = 1;
    context.stroke();
    return this;
  }

  end() {}

  /** The place of the near side under a pixel, or nothing beside the globe. */
  from(px, py) {
    const right = (px - this.middle[0]) / this.radius;
    const up = (this.middle[1] - py) / this.radius;
    const depth = Math.sqrt(1 - right * right - up * up);
    if (!Number.isFinite(depth)) return null;
    const [a, b] = [(this.turn.east * Math.PI) / 180, (this.turn.north * Math.PI) / 180];
    const front = Math.cos(b) * depth - Math.sin(b) * up;
    const z = Math.sin(b) * depth + Math.cos(b) * up;
    return [Math.cos(a) * front - Math.sin(a) * right, Math.sin(a) * front + Math.cos(a) * right, z];
  }

  at(x, y, z) {
    const [right, up, depth] = this.view(x, y, z);
    return [this.middle[0] + this.radius * right, this.middle[1] - this.radius * up, depth];
  }

  graticule() {
    const around = Array.from({ length: 73 }, (_, k) => (k * Math.PI) / 36);
    const curves = [];
    for (let b = -60; b <= 60; b += 30) {
      const r = (b * Math.PI) / 180;
      curves.push(around.map((a) => [Math.cos(r) * Math.cos(a), Math.cos(r) * Math.sin(a), Math.sin(r)]));
    }
    for (let a = 0; a < 180; a += 30) {
      const r = (a * Math.PI) / 180;
      curves.push(around.map((b) => [Math.cos(b) * Math.cos(r), Math.cos(b) * Math.sin(r), Math.sin(b)]));
    }
    for (const curve of curves) this.curve(curve, colour("line"), 0.7);
  }

  /** A curve of places; what is behind is left out. */
  curve(places, paint, width = 1, alpha = 1) {
    const { context } = this;
    context.globalAlpha = alpha;
    context.strokeStyle = paint;
    context.lineWidth = width;
    context.beginPath();
    let before = false;
    for (const place of places) {
      const [px, py, depth] = this.at(...place);
      if (depth > 0 && before) context.lineTo(px, py);
      else if (depth > 0) context.moveTo(px, py);
      before = depth > 0;
    }
    context.stroke();
    context.globalAlpha = 1;
  }

  dots(points, paint, size = 2.4, alpha = 0.75) {
    if (!points) return;
    const { context } = this;
    const { data, shape } = points;
    if (typeof paint === "string") context.fillStyle = paint;
    for (let k = 0; k < shape[0]; k += 1) {
      const [px, py, depth] = this.at(data[3 * k], data[3 * k + 1], data[3 * k + 2]);
      context.globalAlpha = depth > 0 ? alpha : alpha * 0.14;
      if (typeof paint !== "string") context.fillStyle = paint(k);
      context.fillRect(px - size / 2, py - size / 2, size, size);
    }
    context.globalAlpha = 1;
  }

  lines(points, paint, width = 1, alpha = 1) {
    if (!points) return;
    const { data, shape } = points;
    const [k, m] = shape;
    for (let i = 0; i < k; i += 1) {
      const curve = [];
      for (let j = 0; j < m; j += 1) {
        const at = 3 * (i * m + j);
        curve.push([data[at], data[at + 1], data[at + 2]]);
      }
      this.curve(curve, paint, width, alpha);
    }
  }

  ring(x, y, z, paint, radius = 6, word = "") {
    const [px, py, depth] = this.at(x, y, z);
    if (depth > 0) mark(this.context, px, py, paint, radius, word);
  }

  /** Turns by dragging and by the arrow keys, and then redraws. */
  turnable(redraw) {
    const { canvas, turn } = this;
    canvas.tabIndex = 0;
    const by = (east, north) => {
      turn.east = (turn.east + east + 360) % 360;
      turn.north = Math.min(90, Math.max(-90, turn.north + north));
      redraw();
    };
    let last = null;
    canvas.addEventListener("pointerdown", (event) => {
      last = [event.clientX, event.clientY];
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      if (!last) return;
      by((last[0] - event.clientX) * 0.4, (event.clientY - last[1]) * 0.4);
      last = [event.clientX, event.clientY];
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => (last = null));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [8, 0], ArrowRight: [-8, 0], ArrowUp: [0, 8], ArrowDown: [0, -8] }[event.key];
      if (!step) return;
      event.preventDefault();
      by(...step);
    });
  }
}

/** The number of the drawn point nearest to a place of the canvas, or -1 beyond `far` pixels. */
export function nearest(space, points, px, py, far = 14) {
  const { data, shape } = points;
  const [n, dim] = shape;
  let [best, found] = [far * far, -1];
  for (let k = 0; k < n; k += 1) {
    const [x, y, depth = 1] = space.at(...data.subarray(dim * k, dim * k + dim));
    const distance = (x - px) ** 2 + (y - py) ** 2;
    if (depth > 0 && distance < best) [best, found] = [distance, k];
  }
  return found;
}

/** The place of an event in the CSS pixels of its canvas. */
export function placeOf(event, canvas) {
  const box = canvas.getBoundingClientRect();
  return [event.clientX - box.left, event.clientY - box.top];
}
