// Elements and controls. Each control is an object with `node` and `value`.

/** An element with attributes, listeners (`on...`) and children. */
export function el(name, given = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

let count = 0;
const fresh = () => `c${(count += 1)}`;

/** A number with few digits. */
export function short(value, digits = 3) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Math.abs(value) < 1e-6) return "0";
  if ((Math.abs(value) < 0.001 || Math.abs(value) >= 1e5)) return value.toExponential(1);
  return String(Number(value.toPrecision(digits)));
}

/** A slider with its name, its value in words, and a hint. */
export function slider({ name, min, max, step = 1, value, words = String, hint, on }) {
  const id = fresh();
  const shown = el("output", { for: id });
  const input = el("input", { type: "range", id, min, max, step, value });
  const say = () => {
    shown.textContent = words(Number(input.value));
    input.setAttribute("aria-valuetext", shown.textContent);
  };
  input.addEventListener("input", () => {
    say();
    on?.(Number(input.value));
  });
  say();
  const note = hint ? el("small", {}, hint) : null;
  const node = el("div", { class: "control" }, el("label", { for: id }, name), shown, input, note);
  return {
    node,
    input,
    say(words) {
      note.textContent = words;
    },
    get value() {
      return Number(input.value);
    },
    set value(number) {
      input.value = number;
      say();
    },
    bounds(low, high) {
      input.min = low;
      input.max = high;
      say();
    },
    enable(yes) {
      input.disabled = !yes;
      node.classList.toggle("off", !yes);
    },
  };
}

/** A choice of [value, words] pairs. */
export function choice({ name, options, value, hint, on }) {
  const id = fresh();
  const input = el("select", { id });
  const note = el("small", {}, hint ?? "");
  const self = {
    node: el("div", { class: "control wide" }, el("label", { for: id }, name), input, note),
    input,
    get value() {
      return input.value;
    },
    set value(word) {
      input.value = word;
    },
    fill(pairs, chosen) {
      input.replaceChildren(...pairs.map(([key, words]) => el("option", { value: key }, words)));
      if (chosen !== undefined) input.value = chosen;
    },
    say(words) {
      note.textContent = words;
    },
    enable(yes) {
      input.disabled = !yes;
    },
  };
  self.fill(options ?? [], value);
  input.addEventListener("change", () => on?.(input.value));
  return self;
}

/** A whole number with a button for another one at random. */
export function seed({ name = "Seed", value = 0, hint, on }) {
  const id = fresh();
  const input = el("input", { type: "number", id, min: 0, max: 2147483647, step: 1, value });
  const self = {
    get value() {
      const found = Math.trunc(Number(input.value));
      return Number.isFinite(found) ? Math.min(Math.max(found, 0), 2147483647) : 0;
    },
    set value(number) {
      input.value = number;
    },
  };
  const another = el("button", {
    type: "button",
    onclick: () => {
      input.value = Math.floor(Math.random() * 1e6);
      on?.(self.value);
    },
  }, "Another");
  input.addEventListener("input", () => on?.(self.value));
  self.node = el("div", { class: "control wide" }, el("label", { for: id }, name),
    el("div", { class: "row" }, input, another), hint ? el("small", {}, hint) : null);
  return self;
}

/** A box to tick. */
export function tick({ name, value = false, on }) {
  const input = el("input", { type: "checkbox" });
  input.checked = value;
  input.addEventListener("change", () => on?.(input.checked));
  return {
    node: el("label", { class: "tick" }, input, name),
    input,
    get value() {
      return input.checked;
    },
    set value(yes) {
      input.checked = yes;
    },
  };
}

/** A few words of which one is chosen, side by side. */
export function either({ name, options, value, on }) {
  const group = fresh();
  const inputs = options.map(([key]) =>
    el("input", { type: "radio", name: group, value: key, onchange: () => on?.(key) }));
  const node = el("fieldset", { class: "either" }, el("legend", {}, name),
    options.map(([, words], k) => el("label", {}, inputs[k], el("span", {}, words))));
  const self = {
    node,
    inputs,
    get value() {
      return inputs.find((input) => input.checked)?.value;
    },
    set value(key) {
      inputs.forEach((input) => (input.checked = input.value === key));
    },
  };
  self.value = value;
  return self;
}

/** A button. */
export function button(words, onclick, given = {}) {
  return el("button", { type: "button", onclick, ...given }, words);
}

/** A line that says what is going on, for people who do not see the picture too. */
export function status() {
  const node = el("p", { class: "status", role: "status" });
  let timer = 0;
  return {
    node,
    say(words, wrong = false) {
      clearTimeout(timer);
      node.textContent = words;
      node.classList.toggle("wrong", wrong);
    },
    /** Says it where it is still so after a while. */
    soon(words, delay = 350) {
      clearTimeout(timer);
      timer = setTimeout(() => {
        node.textContent = words;
        node.classList.remove("wrong");
      }, delay);
    },
  };
}
