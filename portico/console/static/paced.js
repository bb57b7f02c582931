// Paced: looks that are taken soon, one at a time: many wishes are one look, and what is wished for during a look is one more after it.

export class Paced {
  #look;
  #pace;
  #timer = 0;
  #last = 0;
  #looking = null;
  #wanted = false;

  /** `look(stands)`: looks; `stands()` tells whether anybody still wants what it finds · `pace`: milliseconds between two, at least. */
  constructor(look, pace) {
    this.#look = look;
    this.#pace = pace;
  }

  /** Look, as soon as the pace allows. */
  soon() {
    if (this.#looking) this.#wanted = true; // what it finds may be older than the wish
    else this.#timer ||= setTimeout(() => this.#run(), Math.max(0, this.#last + this.#pace - Date.now()));
  }

  /** Whether a look is under way. */
  get busy() {
    return this.#looking !== null;
  }

  /** Forget every wish, and whatever is being looked for. */
  stop() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#looking = null;
    this.#wanted = false;
  }

  async #run() {
    const mine = {};
    this.#looking = mine;
    this.#timer = 0;
    this.#last = Date.now();
    await this.#look(() => this.#looking === mine);
    if (this.#looking !== mine) return;
    this.#looking = null;
    if (!this.#wanted) return;
    this.#wanted = false;
    this.soon();
  }
}
