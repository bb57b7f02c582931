// RunStream: the story of one run as it happens, until its last event.
import { path } from "./api.js";
import { ENDINGS, Story } from "./story.js";
import { Stream } from "./stream.js";

export class RunStream extends Stream {
  story = new Story();

  /** `id`: the run's. */
  constructor(api, id) {
    super(api, `${path("runs", id)}/events`, { ends: (kind) => ENDINGS.has(kind) });
    this.on("*", (data, kind) => this.#take(data, kind));
  }

  /** What the stream is about: "connecting", "live", "waiting", "paused", "ended", "gone" (its events are not kept), "refused" or "closed". */
  get about() {
    if (this.story.ended) return "ended";
    return this.state === "refused" && this.problem?.status === 404 ? "gone" : this.state;
  }

  #take(data, kind) {
    if (kind === "gap") this.story.add({ type: kind, data });
    else if (Number.isInteger(data?.seq)) this.story.add({ seq: data.seq, type: kind, at: data.at, data: data.data });
    else return; // no event of the run, such as that the gateway stops
    this.changed();
  }
}
