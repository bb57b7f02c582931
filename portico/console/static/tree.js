// Tree: the supervision tree as it is now: read once, then kept up by the stream. Read anew where processes come or go, or after a gap.
import { Observable } from "./observable.js";
import { reason } from "./news.js";
import { notAdmin } from "./problem.js";

/** Milliseconds between two readings of the whole, at least; a slow one makes it longer. */
const PACE = 3_000;
/** Milliseconds between two readings where there is no stream. */
const POLL = 10_000;
/** A reading may take this share of the time. */
const SHARE = 10;

/** What the page knows of a node beside what the gateway shows: that the gateway leaves it out says nothing. */
const OWN = new Set(["key", "parent", "position", "siblings", "level", "tally", "children", "lastCrash"]);

/** From the worst to the best: which of its children's states a supervisor shows. No process has the status "draining": what it takes says so. */
export const STATUSES = ["failed", "restarting", "stopping", "draining", "suspended", "stopped", "starting", "created", "waiting", "running"];

export class Tree extends Observable {
  /** "unread", "reading", "read" or "failed". */
  state = "unread";
  /** Why it could not be read: a Problem, or null. */
  problem = null;
  /** The trees: the runtime's own, and what was attached beside it. */
  roots = [];
  /** Every node by its name. */
  byName = new Map();
  /** Rises when nodes come or go, not when one changes. */
  shape = 0;
  #api;
  #stream;
  #session;
  #timer = 0;
  #took = 0;
  #last = 0;
  #reading = null;

  constructor(api, stream, session) {
    super();
    this.#api = api;
    this.#stream = stream;
    this.#session = session;
    stream.on("hello", () => {
      this.#session.learned(true);
      if (!this.#stream.resumed) this.#readNext();
    });
    stream.on("gap", () => this.#readNext());
    stream.on("process", (data, kind) => this.#happened(data, kind));
    stream.on("figures", (figures) => this.#figures(figures.agents ?? {}));
    stream.subscribe(() => this.#connection());
  }

  open() {
    this.read();
  }

  clear() {
    clearTimeout(this.#timer);
    this.#reading?.abort();
    this.#reading = null;
    this.state = "unread";
    this.roots = [];
    this.byName = new Map();
    this.shape++;
    this.changed();
  }

  /** Without the stream, look now and then. */
  #connection() {
    if (this.#stream.state !== "refused") return;
    const why = notAdmin(this.#stream.problem);
    if (why) this.#session.learned(false, why);
    if (this.#stream.problem.status !== 401) this.readSoon(POLL);
  }

  /** Read the whole, when that is due. */
  readSoon(wait = 0) {
    if (this.#timer) return;
    const due = Math.max(wait, this.#last + Math.max(PACE, SHARE * this.#took) - Date.now());
    this.#timer = setTimeout(() => this.read(), due);
  }

  /** Read the whole, once for all that comes in this moment: after a restart of the gateway a greeting and a gap. */
  #readNext() {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.read(), 0);
  }

  /** Read the whole, now. What happens meanwhile is in the answer or comes after it. */
  async read() {
    clearTimeout(this.#timer);
    this.#timer = 0;
    this.#reading?.abort();
    const reading = new AbortController();
    this.#reading = reading;
    if (this.state !== "read") this.state = "reading";
    this.changed();
    const began = Date.now();
    try {
      const root = await this.#api.get("agents", { signal: reading.signal });
      if (this.#reading !== reading) return;
      this.#take(root);
      this.state = "read";
      this.problem = null;
    } catch (problem) {
      if (this.#reading !== reading) return;
      this.problem = problem;
      if (this.state !== "read") this.state = "failed";
      if (problem.status !== 401) this.readSoon(POLL);
    }
    this.#reading = null;
    this.#last = Date.now();
    this.#took = this.#last - began;
    this.changed();
    if (this.#stream.state === "refused" && this.#session.state === "open") this.readSoon(POLL);
  }

  #take(root) {
    const known = this.byName;
    this.byName = new Map();
    let same = true;
    const grow = (raw, parent, position, siblings) => {
      const before = known.get(raw.name);
      if (!before || before.parent?.name !== parent?.name || before.position !== position) same = false;
      const node = { ...raw, siblings, key: this.byName.has(raw.name) ? `${parent?.key}/${raw.name}` : raw.name, parent, position, tally: null };
      node.level = parent ? parent.level + 1 : 1;
      node.lastCrash = raw.last_crash ?? null;
      if (!this.byName.has(raw.name)) this.byName.set(raw.name, node);
      node.children = raw.children ? raw.children.map((child, index) => grow(child, node, index, raw.children.length)) : null;
      if (node.children) node.tally = tallied(node.children);
      return node;
    };
    this.roots = [root, ...(root.beside ?? [])].map((one, position, all) => grow(one, null, position, all.length));
    if (!same || known.size !== this.byName.size) this.shape++;
  }

  #happened(data, kind) {
    const node = this.byName.get(data.name);
    if (!node) {
      if (this.state === "read" && kind === "process.started") this.readSoon();
      return;
    }
    switch (kind) {
      case "process.status":
        this.#become(node, data.status);
        break;
      case "process.crashed":
        node.lastCrash = { at: data.at, message: reason(data), incarnation: node.incarnation, ...(data.error ?? {}), ...(data.last_crash ?? {}) };
        break;
      case "process.restarted":
        node.incarnation = data.incarnation ?? (node.incarnation ?? 0) + 1;
        node.restarts = data.restarts ?? (node.restarts ?? 0) + 1;
        break;
      case "process.failed":
        this.#become(node, "failed");
        break;
      case "process.stopped":
        this.#become(node, "stopped");
        if (node.parent?.kind === "dyn") this.readSoon();
        break;
      default:
        return;
    }
    this.changed();
  }

  #figures(agents) {
    for (const [name, figures] of Object.entries(agents)) {
      const node = this.byName.get(name);
      if (!node) continue;
      if (figures.depth !== undefined) node.mailbox = { ...node.mailbox, depth: figures.depth };
      if (figures.in_flight !== undefined) node.in_flight = figures.in_flight;
      if (figures.restarts_per_minute !== undefined) node.restarts_per_minute = figures.restarts_per_minute;
      if (figures.intake !== undefined) node.intake = figures.intake;
      if (figures.keys !== undefined) node.keys = figures.keys;
      if (figures.status && node.status) this.#become(node, figures.status);
    }
    this.changed();
  }

  #become(node, status) {
    if (!status || node.status === status) return;
    for (let above = node.parent; above?.tally; above = above.parent) {
      if (node.status) above.tally[node.status] = (above.tally[node.status] ?? 1) - 1;
      above.tally[status] = (above.tally[status] ?? 0) + 1;
    }
    node.status = status;
  }

  /** A node as the gateway has just shown it: what it leaves out, such as a reason or an error, is over. */
  update(raw) {
    const node = this.byName.get(raw.name);
    if (!node) return;
    const { children: _, beside: __, status, ...rest } = raw;
    for (const member of Object.keys(node)) if (!OWN.has(member) && !(member in raw)) delete node[member];
    Object.assign(node, rest, { lastCrash: raw.last_crash ?? node.lastCrash });
    this.#become(node, status);
    this.changed();
  }
}

/** How many processes below are in which state. */
function tallied(children) {
  const tally = {};
  for (const child of children) {
    if (child.tally) for (const [status, number] of Object.entries(child.tally)) tally[status] = (tally[status] ?? 0) + number;
    else if (child.status) tally[child.status] = (tally[child.status] ?? 0) + 1;
  }
  return tally;
}

/** What is said of those that take messages and are no process, such as pools. */
const INTAKE = { open: "running", closed: "stopped" };

/** The state that a node shows: its own, or the worst among the processes below it. What takes nothing new says so. */
export function shownStatus(node) {
  const { status, intake } = node;
  if ((intake === "draining" || intake === "suspended") && (!status || status === "running" || status === "waiting")) return intake;
  return status ?? STATUSES.find((one) => node.tally?.[one] > 0) ?? INTAKE[intake] ?? "";
}
