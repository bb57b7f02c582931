// RunList: runs, the newest first, kept right by the gateway's events. What is long of a run (input, output) is not kept here.
import { milliseconds } from "./clock.js";
import { Pages } from "./pages.js";
import { notAdmin } from "./problem.js";

export const STATUSES = ["queued", "running", "waiting", "succeeded", "failed", "cancelled", "timed_out"];
export const ENDS = new Set(["succeeded", "failed", "cancelled", "timed_out"]);

/** Milliseconds. */
const TOGETHER = 100;

export class RunList extends Pages {
  /** Why these are the caller's own runs alone: a part of a sentence; "" where they are everybody's. */
  own = "";
  #filter = {};
  #arrived = new Map();
  #timer = 0;
  #ends;

  /** `stream`: the gateway's Stream. */
  constructor(api, stream) {
    super(api, { path: "runs", member: "runs", key: "run_id", slim, wanted: (run) => this.#wanted(run) });
    this.#ends = [
      stream.on("run", (data) => this.#happened(data)),
      stream.on("gap", () => this.reload()),
      stream.on("blind", () => this.freshen(0)),
    ];
  }

  /** Show the runs of a filter: `status`, `agent`, `principal`, `id` (how a run's id begins), `parent`. */
  async show(filter) {
    this.#filter = filter;
    if (!this.own) await this.open({ ...filter, everyone: "true" });
    if (this.problem) this.own ||= notAdmin(this.problem); // whoever is no admin sees their own
    if (this.own) await this.open(filter);
  }

  close() {
    super.close();
    clearTimeout(this.#timer);
    for (const end of this.#ends) end();
  }

  #happened({ at, run_id: id, agent, operation, status, principal }) {
    const run = this.known.get(id) ?? this.#arrived.get(id);
    if (run) {
      run.status = status;
      if (ENDS.has(status)) run.finished_at ??= asText(at);
      this.changed();
      if (ENDS.has(status) || status === "waiting") this.freshen(); // for attempts and costs
      return;
    }
    if (!this.#wanted({ agent, status, principal, run_id: id })) return;
    if (status === "queued" && !this.#filter.parent) {
      this.#arrived.set(id, slim({ run_id: id, agent, operation, status, principal, created_at: asText(at) }));
      this.#timer ||= setTimeout(() => this.#arrive(), TOGETHER);
    } else {
      this.freshen();
    }
  }

  /** Many that come within a moment are put on top at once: the list may be long. */
  #arrive() {
    this.#timer = 0;
    const runs = [...this.#arrived.values()].filter((one) => !this.known.has(one.run_id)).reverse();
    this.#arrived.clear();
    if (runs.length) this.put(runs);
  }

  #wanted(run) {
    const { status, agent, principal, id } = this.#filter;
    return (
      (!status || status === run.status) &&
      (!agent || agent === run.agent) &&
      (!principal || principal === run.principal) &&
      (!id || run.run_id.startsWith(id))
    );
  }
}

function slim(run) {
  return {
    run_id: run.run_id,
    parent_id: run.parent_id ?? null,
    agent: run.agent,
    operation: run.operation,
    status: run.status,
    principal: run.principal ?? null,
    created_at: run.created_at,
    finished_at: run.finished_at ?? null,
    attempts: run.attempts ?? 0,
    slug: run.error?.slug ?? null,
    usage: run.usage ?? null,
    waits: run.waiting_for?.kind ?? null,
  };
}

/** An instant of an event as a record has it. */
function asText(at) {
  return typeof at === "number" ? new Date(at * 1000).toISOString() : at;
}

/** Seconds that a run has taken, or takes until now (`now`: milliseconds). */
export function took(run, now) {
  const end = run.finished_at ? milliseconds(run.finished_at) : now;
  return Math.max(0, (end - milliseconds(run.created_at)) / 1000);
}
