// The page of a run: its graph, the engine around it, and the panel Sample of the studio.

import { makeEngine, noiseAt } from "./engine.js";
import { makeSample } from "./sample.js";

const { about, graph, glue, wasm } = window.portolan;
const said = document.getElementById("about");

function bytes(text) {
  const found = atob(text);
  const out = new Uint8Array(found.length);
  for (let k = 0; k < out.length; k += 1) out[k] = found.charCodeAt(k);
  return out;
}

/** The graph in a session of onnxruntime; one call at a time, in their order. */
async function open() {
  const { env, InferenceSession, Tensor } = window.ort;
  env.wasm.numThreads = 1; // more would need a server that isolates the page
  env.wasm.proxy = false;
  env.wasm.wasmBinary = bytes(wasm);
  env.wasm.wasmPaths = {
    mjs: URL.createObjectURL(new Blob([bytes(glue)], { type: "text/javascript" })),
  };
  const session = await InferenceSession.create(bytes(graph), {
    executionProviders: ["wasm"], logSeverityLevel: 3,
  });
  let last = Promise.resolve();
  return (inputs) => {
    const feeds = {};
    for (const [name, { data, shape }] of Object.entries(inputs)) {
      feeds[name] = new Tensor(data instanceof Int32Array ? "int32" : "float32", data, shape);
    }
    last = last.catch(() => {}).then(() => session.run(feeds));
    return last.then((found) => found.samples.data);
  };
}

async function begin() {
  document.title = about.name;
  said.textContent = "Opening the map…";
  try {
    const engine = makeEngine(about, await open());
    const panel = makeSample(engine.ask);
    document.getElementById("panels").append(panel.node);
    panel.show(about);
    said.textContent = about.words;
    document.body.dataset.open = "yes";
    Object.assign(window.portolan, { engine, noiseAt: (seed, index) => noiseAt(about, seed, index) });
  } catch (error) {
    said.textContent = `The map does not open: ${error.message}`;
    document.body.dataset.open = "no";
  }
}

begin();
