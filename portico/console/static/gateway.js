// Gateway: what a view has to do with: the API, the stream, what is known so far, and how to speak to whoever looks at it.
import { Announcer } from "./announcer.js";
import { Api } from "./api.js";
import { Clock } from "./clock.js";
import { Contracts } from "./contracts.js";
import { Dialogs } from "./dialogs.js";
import { Figures } from "./figures.js";
import { createContext, useContext } from "./html.js";
import { News } from "./news.js";
import { notAdmin } from "./problem.js";
import { Readiness } from "./readiness.js";
import { Router } from "./router.js";
import { Session } from "./session.js";
import { Stream } from "./stream.js";
import { Theme } from "./theme.js";
import { Tree } from "./tree.js";
import { WaitingList } from "./waiting_list.js";

export class Gateway {
  /** `base`: the URL of the gateway's root · `title`: its name. */
  constructor(base, title) {
    this.title = title;
    this.session = new Session();
    this.api = new Api(base, this.session);
    this.stream = new Stream(this.api, "events?topics=process,run,figures");
    this.clock = new Clock();
    this.router = new Router();
    this.theme = new Theme();
    this.announcer = new Announcer();
    this.dialogs = new Dialogs();
    this.readiness = new Readiness(this.api, this.stream);
    this.tree = new Tree(this.api, this.stream, this.session);
    this.figures = new Figures(this.stream);
    this.news = new News(this.stream, this.announcer);
    this.waiting = new WaitingList(this.api, this.stream);
    this.contracts = new Contracts(this.api, this.stream);
    this.stream.on("figures", (figures) => this.clock.observe(figures.at));
    this.session.subscribe(() => this.#sessionChanged());
  }

  /** Begin to listen. */
  open() {
    this.stream.open();
    this.readiness.open();
    this.tree.open();
    this.waiting.readSoon();
  }

  #sessionChanged() {
    if (this.session.state === "asked") {
      this.stream.close();
      for (const known of [this.tree, this.waiting, this.figures, this.news, this.contracts]) known.clear(); // whoever comes next may not see it
    }
  }

  /** Use this key, and begin anew. */
  signIn(key) {
    this.session.signIn(key);
    this.open();
  }

  /** Whether what is done to agents is allowed here, as far as the gateway has said so. */
  get mayAct() {
    return this.session.admin !== false;
  }

  /** Do something, and tell what came of it: the answer, or null where it failed. `done`: a sentence, or makes one of the answer. */
  async act(promise, done) {
    try {
      const answer = await promise;
      this.announcer.tell(typeof done === "function" ? done(answer) : done, "good");
      return answer;
    } catch (problem) {
      const why = problem.status === 403 ? "" : notAdmin(problem); // a 403 names the scopes itself
      this.announcer.tell(why ? `That is refused: ${why}.` : problem.message, "bad");
      return null;
    }
  }
}

export const GatewayContext = createContext(null);

/** A hook: the gateway that the page shows. */
export function useGateway() {
  return useContext(GatewayContext);
}
