// Observable: something that changes, and whoever wants to know. Many changes between two frames are told once.
import { useEffect, useState } from "./html.js";

/** Milliseconds after which changes are told where no frame comes: in a hidden tab. */
const WITHOUT_FRAME = 250;

export class Observable {
  #listeners = new Set();
  #frame = 0;
  #timer = 0;
  /** How often it has changed. */
  version = 0;

  /** Call `listener` after changes. Returns what ends that. */
  subscribe(listener) {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Something is different now: whoever listens is told with the next frame. */
  changed() {
    this.version++;
    if (this.#timer || !this.#listeners.size) return;
    this.#frame = requestAnimationFrame(() => this.#tell());
    this.#timer = setTimeout(() => this.#tell(), WITHOUT_FRAME);
  }

  #tell() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
    this.#timer = 0;
    for (const listener of [...this.#listeners]) listener();
  }
}

/** A hook: draw the component again when `observable` has changed, or only when what `select` makes of it has. */
export function useObservable(observable, select = (one) => one.version) {
  const [value, setValue] = useState(() => select(observable));
  useEffect(() => {
    const look = () => setValue(() => select(observable));
    look();
    return observable.subscribe(look);
  }, [observable]);
  return value;
}
