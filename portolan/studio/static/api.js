// Requests to the server, at most one of a panel at a time: while one is answered the newest
// of the others waits, and those between are dropped.

const page = Array.from(crypto.getRandomValues(new Uint32Array(4)), (n) => n.toString(16)).join("");
let number = 0;

const ARRAYS = { f4: Float32Array, i4: Int32Array, u1: Uint8Array };

/** What the server says was wrong, in one line. */
export class Wrong extends Error {}

/** The server does not answer. */
export class Gone extends Error {}

/** Reads a message: its values, and its arrays as { data, shape }. */
export function read(buffer) {
  const length = new DataView(buffer).getUint32(0, true);
  const said = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const arrays = {};
  for (const [name, { type, shape, at }] of Object.entries(said.arrays)) {
    const size = shape.reduce((a, b) => a * b, 1);
    arrays[name] = { data: new ARRAYS[type](buffer, 4 + length + at, size), shape };
  }
  return { ...said, arrays };
}

/** Asks one job. Throws Wrong with the server's reason, or Gone where there is no server. */
export async function ask(job, body, signal) {
  let answer;
  let buffer;
  try {
    answer = await fetch(`/api/${job}`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
      signal,
    });
    buffer = await answer.arrayBuffer();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    lost();
    throw new Gone("the server does not answer");
  }
  if (answer.ok) return read(buffer);
  let reason = `status ${answer.status}`;
  try {
    reason = JSON.parse(new TextDecoder().decode(buffer)).error;
  } catch {
    // no reason was given
  }
  throw new Wrong(reason);
}

const listeners = [];

/** Calls `listener(true)` when the server is gone and `listener(false)` when it is back. */
export function onGone(listener) {
  listeners.push(listener);
}

let waiting = false;

function lost() {
  if (waiting) return;
  waiting = true;
  listeners.forEach((listener) => listener(true));
  const again = async () => {
    try {
      const answer = await fetch("/icon.svg", { cache: "no-store" });
      if (!answer.ok) throw new Error();
      waiting = false;
      listeners.forEach((listener) => listener(false));
    } catch {
      setTimeout(again, 2000);
    }
  };
  setTimeout(again, 2000);
}

/** The requests of one panel, or of one part of it. `asks` answers them in place of the server. */
export class Line {
  constructor(panel, asks = ask) {
    this.panel = panel;
    this.asks = asks;
    this.sent = 0;
    this.dropped = 0;
    this.running = null;
    this.next = null;
  }

  /** The answer, or null where a newer request took the place of this one. */
  ask(job, body) {
    return new Promise((resolve, reject) => {
      if (this.next) {
        this.dropped += 1;
        this.next.resolve(null);
      }
      this.next = { job, body, resolve, reject };
      if (!this.running) this.go();
    });
  }

  async go() {
    const { job, body, resolve, reject } = this.next;
    this.next = null;
    const stop = new AbortController();
    this.running = stop;
    this.sent += 1;
    number += 1;
    try {
      resolve(await this.asks(job, { ...body, page, panel: this.panel, number }, stop.signal));
    } catch (error) {
      if (error.name === "AbortError") resolve(null);
      else reject(error);
    }
    if (this.running !== stop) return; // it was stopped, and another runs by now
    this.running = null;
    if (this.next) this.go();
  }

  /** Drops what runs and what waits. */
  stop() {
    if (this.next) this.next.resolve(null);
    this.next = null;
    if (this.running) this.running.abort();
    this.running = null;
  }
}
