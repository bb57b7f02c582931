// Pages: a list of the gateway that comes page by page, the newest first, held as far as somebody has scrolled.
import { Observable } from "./observable.js";
import { Problem } from "./problem.js";

/** Entries of the first page, and of each further one. */
const FIRST = 100;
const FURTHER = 500;
/** Pages that reading everything anew may take; beyond that the list begins shorter. */
const AGAIN = 10;
/** With fewer entries than this of a page that belong here, the next one is read at once. */
const FEW = 20;
/** Entries that are held where nobody has scrolled further: a page may be open for a day. */
const HELD = 5_000;
/** Milliseconds between two looks for what is new. */
const PACE = 2_000;
/** Entries that such a look asks for. */
const GLANCE = 50;

export class Pages extends Observable {
  /** The entries, the newest first. */
  rows = [];
  /** "idle", "loading" (nothing is there yet), "more" (the next page comes) or "failed". */
  state = "idle";
  /** Why it failed: a Problem, or null. */
  problem = null;
  /** Whether the last page is there. */
  complete = false;
  /** How many entries were put on top since ever: what is in sight stays in sight. */
  added = 0;
  /** The same entries by their key. */
  known = new Map();
  #api;
  #about;
  #query = {};
  #next = null;
  #generation = 0;
  /** As far as somebody has scrolled. */
  #scrolled = 0;
  #timer = 0;
  #freshening = false;

  /** `about`: `path` of the list, `member` of a page that has the entries, `key` of an entry, `cursor` the query's name for the next page,
   * `slim` makes what is kept of an entry, `wanted` says whether it belongs here. */
  constructor(api, about) {
    super();
    this.#api = api;
    this.#about = { cursor: "before", slim: (one) => one, wanted: () => true, ...about };
  }

  get query() {
    return this.#query;
  }

  /** Begin anew with these parameters. */
  async open(query) {
    this.#query = query;
    this.#generation += 1;
    this.#hold([]);
    this.complete = false;
    this.#next = null;
    await this.#load(FIRST, "loading");
  }

  close() {
    this.#generation += 1;
    clearTimeout(this.#timer);
    this.#timer = 0;
  }

  /** The next page, where there is one and none is on its way. */
  async more() {
    if (this.complete || this.state !== "idle" || !this.#next) return;
    await this.#load(FURTHER, "more");
  }

  /** Try again what has failed. */
  async again() {
    await this.#load(this.rows.length ? FURTHER : FIRST, this.rows.length ? "more" : "loading");
  }

  /** Everything that is there, anew: some changes were missed. */
  async reload() {
    const generation = ++this.#generation;
    const wanted = this.rows.length;
    let [rows, next] = [[], null];
    try {
      for (let pages = 0; pages < AGAIN; pages += 1) {
        const page = await this.#page(rows.length || wanted <= FIRST ? FIRST : FURTHER, next);
        if (generation !== this.#generation) return;
        rows = rows.concat(page.rows);
        next = page.next;
        if (!next || rows.length >= wanted) break;
      }
    } catch (error) {
      if (generation === this.#generation) this.#failed(error);
      return;
    }
    this.#hold(rows);
    this.#settled(next);
  }

  /** Put new entries on top, the newest first. */
  put(rows) {
    this.added += rows.length;
    this.#hold(rows.concat(this.rows), rows);
    this.#shorten();
    this.changed();
  }

  /** Let go of the oldest where many have come: they are read again when somebody scrolls there. */
  #shorten() {
    const most = Math.max(HELD, this.#scrolled);
    if (this.rows.length <= most) return;
    for (const one of this.rows.splice(most)) this.known.delete(one[this.#about.key]);
    this.#next = this.rows.at(-1)[this.#about.key];
    this.complete = false;
  }

  /** Leave out an entry. */
  drop(key) {
    if (!this.known.has(key)) return;
    this.#hold(this.rows.filter((one) => one[this.#about.key] !== key));
    this.changed();
  }

  /** `more`: those of them that were not there. */
  #hold(rows, more = null) {
    this.rows = rows;
    if (more === null) this.known = new Map();
    for (const one of more ?? rows) this.known.set(one[this.#about.key], one);
  }

  /** Look for new entries and changed ones, soon; many wishes are one look. */
  freshen(within = PACE) {
    if (this.#timer) return;
    this.#timer = setTimeout(() => this.#look(), within);
  }

  async #look() {
    this.#timer = 0;
    if (this.state === "loading" || this.#freshening) return this.freshen();
    const generation = this.#generation;
    this.#freshening = true;
    try {
      const page = await this.#page(GLANCE, null);
      if (generation !== this.#generation) return undefined;
      this.#merge(page);
    } catch {
      // What is there stays; the next look may find more.
    } finally {
      this.#freshening = false;
    }
    return undefined;
  }

  /** The first entries over what is there. Where they do not reach it, the list begins with them alone. */
  #merge({ rows, next }) {
    const { key } = this.#about;
    const more = rows.filter((one) => !this.known.has(one[key]));
    if (next && this.rows.length && more.length === rows.length) {
      this.#hold(rows);
      this.#settled(next);
      return;
    }
    const fresh = new Set(rows.map((one) => one[key]));
    const end = this.rows.findLastIndex((one) => fresh.has(one[key]));
    const rest = next ? this.rows.slice(end + 1) : [];
    this.added += more.length;
    this.#hold(rows.concat(rest));
    if (rest.length) this.changed();
    else this.#settled(next);
  }

  /** `pages`: how many at most, where few of their entries belong here. */
  async #load(limit, state, pages = AGAIN) {
    const generation = this.#generation;
    this.state = state;
    this.changed();
    try {
      const page = await this.#page(limit, this.#next);
      if (generation !== this.#generation) return;
      const more = page.rows.filter((one) => !this.known.has(one[this.#about.key]));
      this.#hold(this.rows.concat(more), more);
      this.#scrolled = this.rows.length;
      if (more.length < FEW && page.next && pages > 1) {
        this.#next = page.next;
        await this.#load(FURTHER, state, pages - 1);
        return;
      }
      this.#settled(page.next);
    } catch (error) {
      if (generation === this.#generation) this.#failed(error);
    }
  }

  async #page(limit, cursor) {
    const { path, member, slim, wanted, cursor: name } = this.#about;
    const given = Object.entries({ ...this.#query, limit, [name]: cursor }).filter(([, value]) => value !== null && value !== undefined && value !== "");
    const page = await this.#api.get(`${path}?${new URLSearchParams(given.map(([one, value]) => [one, String(value)]))}`);
    return { rows: page[member].map(slim).filter(wanted), next: page.next ?? null };
  }

  #settled(next) {
    this.#next = next;
    this.complete = !next;
    this.state = "idle";
    this.problem = null;
    this.changed();
  }

  #failed(error) {
    this.problem = Problem.from(error);
    this.state = "failed";
    this.changed();
  }
}
