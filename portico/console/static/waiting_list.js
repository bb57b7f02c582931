// WaitingList: the runs that wait for somebody's answer, the longest waiting first; how many there are stands in the navigation.
import { Observable } from "./observable.js";
import { Paced } from "./paced.js";
import { Problem, notAdmin } from "./problem.js";

/** How many are read; beyond that there are more than anybody answers at a sitting. */
const MOST = 200;
/** Milliseconds between two readings. */
const PACE = 800;

export class WaitingList extends Observable {
  /** Records of runs, the oldest first. */
  runs = [];
  /** "unread", "read" or "failed". */
  state = "unread";
  /** Why it failed: a Problem, or null. */
  problem = null;
  /** Whether there are more than were read. */
  more = false;
  #api;
  /** Runs that have ended to wait since the list that is on its way was asked for: it may still have them. */
  #gone = new Set();
  #looks = new Paced((stands) => this.#read(stands), PACE);

  constructor(api, stream) {
    super();
    this.#api = api;
    stream.on("hello", () => this.readSoon());
    stream.on("gap", () => this.readSoon());
    stream.on("blind", () => this.readSoon());
    stream.on("run", (data, kind) => {
      if (data.status !== "waiting") this.drop(data.run_id);
      else if (kind === "run.waiting") this.readSoon();
    });
  }

  readSoon() {
    this.#looks.soon();
  }

  /** It waits no more for what it has waited for. It may wait anew, for the same even: so it is not kept until it is read. */
  drop(id) {
    if (this.#looks.busy) this.#gone.add(id);
    const rest = this.runs.filter((run) => run.run_id !== id);
    if (rest.length === this.runs.length) return;
    this.runs = rest;
    this.readSoon();
    this.changed();
  }

  clear() {
    this.#looks.stop();
    this.runs = [];
    this.more = false;
    this.problem = null;
    this.state = "unread";
    this.changed();
  }

  /** Everybody's, or the caller's own where that is no admin. */
  async #page() {
    const own = `runs?status=waiting&limit=${MOST}`;
    try {
      return await this.#api.get(`${own}&everyone=true`);
    } catch (problem) {
      if (!notAdmin(problem)) throw problem;
      return this.#api.get(own);
    }
  }

  async #read(stands) {
    this.#gone.clear();
    try {
      const page = await this.#page();
      if (!stands()) return; // it was for whoever was here before
      this.runs = page.runs.filter((run) => run.waiting_for?.kind === "input" && !this.#gone.has(run.run_id)).reverse();
      if (page.runs.some((run) => this.#gone.has(run.run_id))) this.readSoon();
      this.more = page.next !== null;
      this.state = "read";
      this.problem = null;
    } catch (error) {
      if (!stands()) return;
      this.problem = Problem.from(error);
      if (this.state !== "read") this.state = "failed";
    }
    this.changed();
  }
}
