// The page: which run, which panel, and what is said where the server is gone.

import { Line, ask, onGone } from "./api.js";
import { el } from "./dom.js";
import { makeEdit } from "./edit.js";
import { makeInspect } from "./inspect.js";
import { makeMap } from "./map.js";
import { makeSample } from "./sample.js";
import { makeSteer } from "./steer.js";
import { makeTraining } from "./training.js";

let runs = [];
const panels = {
  sample: makeSample(), map: makeMap(), steer: makeSteer(), training: makeTraining(() => runs), edit: makeEdit(), inspect: makeInspect(),
};
const names = Object.keys(panels);
const [tabs, main, picker, said, gone] = ["tabs", "panels", "run", "about", "gone"]
  .map((id) => document.getElementById(id));
const described = new Map();
const line = new Line("about");
let current = names[0];

for (const [name, panel] of Object.entries(panels)) {
  tabs.append(el("button", {
    type: "button", role: "tab", id: `tab-${name}`, "aria-controls": `panel-${name}`,
    onclick: () => go(name), onkeydown: (event) => along(event, name),
  }, panel.name));
  main.append(el("div", { role: "tabpanel", id: `panel-${name}`, "aria-labelledby": `tab-${name}`, hidden: true }, panel.node));
}

function along(event, name) {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (!step) return;
  const next = names[(names.indexOf(name) + step + names.length) % names.length];
  go(next);
  document.getElementById(`tab-${next}`).focus();
}

/** Shows a panel. */
function go(name) {
  current = names.includes(name) ? name : names[0];
  for (const each of names) {
    const mine = each === current;
    const tab = document.getElementById(`tab-${each}`);
    tab.setAttribute("aria-selected", mine);
    tab.tabIndex = mine ? 0 : -1;
    document.getElementById(`panel-${each}`).hidden = !mine;
    if (!mine) panels[each].hide?.();
  }
  history.replaceState(null, "", `#${current}/${picker.value}`);
  show();
}

/** Describes the run, then hands it to the panel. */
async function show() {
  const run = Number(picker.value);
  const panel = panels[current];
  if (!described.has(run)) {
    said.textContent = "Opening the run…";
    document.body.dataset.open = "wait";
    panel.without?.(run);
    try {
      const found = await line.ask("about", { run });
      if (!found) return;
      described.set(run, found);
    } catch (error) {
      said.textContent = error.message;
      document.body.dataset.open = "no";
      return;
    }
  }
  if (run !== Number(picker.value) || panel !== panels[current]) return;
  const about = described.get(run);
  document.body.dataset.open = "yes";
  document.title = `${about.name} – Portolan Studio`;
  said.textContent = [about.title, about.examples, `${about.parameters.toLocaleString("en")} parameters`,
    about.path].join(" · ");
  panel.show(about);
}

document.addEventListener("reload", async ({ detail: run }) => {
  try {
    await line.ask("reload", { run });
    described.delete(run);
    go(current);
  } catch (error) {
    said.textContent = error.message;
  }
});

picker.addEventListener("change", () => go(current));
window.addEventListener("hashchange", () => {
  const [name, run] = location.hash.slice(1).split("/");
  if (run && picker.querySelector(`option[value="${Number(run)}"]`)) picker.value = Number(run);
  go(name);
});

onGone((yes) => {
  gone.hidden = !yes;
  gone.textContent = yes
    ? "The server does not answer: it has been stopped, or this machine slept. Start the same command again; this page goes on by itself when it is back, at the same port."
    : "";
  if (!yes) location.reload();
});

async function begin() {
  ({ runs } = await ask("runs", {}));
  picker.replaceChildren(...runs.map(({ run, name }) => el("option", { value: run }, name)));
  picker.parentNode.classList.toggle("only", runs.length === 1);
  const [name, run] = location.hash.slice(1).split("/");
  if (run && Number(run) < runs.length) picker.value = Number(run);
  go(name);
}

begin();
