// The panel Sample in a notebook, as a widget: Python answers through the kernel's messages.

import { read } from "./api.js";
import { el } from "./dom.js";
import { makeSample } from "./sample.js";

/** Shows the panel in a place of the notebook; `model` is that of anywidget. */
export function render({ model, el: place }) {
  const mine = Array.from(crypto.getRandomValues(new Uint32Array(2)), String).join("-");
  const waiting = new Map();
  let count = 0;

  function heard(said, buffers) {
    const found = waiting.get(said.number);
    if (!found) return; // that of another view
    waiting.delete(said.number);
    if (said.error) found.reject(new Error(said.error));
    else found.resolve(read(whole(buffers[0])));
  }

  function asks(job, body) {
    count += 1;
    const number = `${mine}-${count}`;
    return new Promise((resolve, reject) => {
      waiting.set(number, { resolve, reject });
      model.send({ number, job, body });
    });
  }

  const panel = makeSample(asks);
  const root = el("div", { class: "portolan-play" }, panel.node);
  place.append(root);
  model.on("msg:custom", heard);
  asks("about", {}).then(panel.show, (error) => root.replaceChildren(error.message));
  return () => model.off("msg:custom", heard);
}

/** The bytes of a message as a buffer of their own. */
function whole(bytes) {
  if (bytes instanceof ArrayBuffer) return bytes;
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
}
