// Announcer: news for whoever listens to the page instead of looking at it. Polite, and not more than can be listened to.
import { Observable } from "./observable.js";

/** Milliseconds between two announcements; what comes meanwhile is counted. */
const PACE = 4_000;
/** How many notices are shown at once. */
const SHOWN = 4;
/** Milliseconds for which a notice is shown. */
const LASTING = 7_000;

export class Announcer extends Observable {
  /** What a screen reader says next. */
  spoken = "";
  /** What is shown in the corner: `{id, kind, text}`; kind: "good", "bad" or "plain". */
  notices = [];
  #next = "";
  #more = 0;
  #timer = 0;
  #last = 0;

  /** News of the gateway: spoken when there is time, else counted. Not shown. */
  say(text) {
    if (this.#timer) this.#more++;
    else this.#next = text;
    if (!this.#timer) this.#timer = setTimeout(() => this.#speak(), Math.max(0, this.#last + PACE - Date.now()));
  }

  /** What came of something that somebody did here: spoken at once, and shown. */
  tell(text, kind = "plain") {
    const notice = { id: Symbol(text), kind, text };
    this.notices = [...this.notices.slice(1 - SHOWN), notice];
    this.#utter(text);
    setTimeout(() => this.dismiss(notice.id), kind === "bad" ? 2 * LASTING : LASTING);
    this.changed();
  }

  dismiss(id) {
    this.notices = this.notices.filter((one) => one.id !== id);
    this.changed();
  }

  #speak() {
    this.#timer = 0;
    this.#utter(this.#more ? `${this.#next}, and ${this.#more} more` : this.#next);
    this.#more = 0;
  }

  #utter(text) {
    this.#last = Date.now();
    // The same words twice are spoken once: a blank makes them others.
    this.spoken = text === this.spoken ? `${text}\u00a0` : text;
    this.changed();
  }
}
