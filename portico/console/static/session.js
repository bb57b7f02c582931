// Session: the key of whoever looks at the page, and whether the gateway takes it. Kept for this tab, until it is closed.
import { Observable } from "./observable.js";

const PLACE = "portico.key";

export class Session extends Observable {
  /** "open": nothing was refused so far · "asked": the gateway wants a key. */
  state = "open";
  /** Why it asks again: a sentence, or "". */
  complaint = "";
  /** Whether actions are allowed: null until the gateway has said so. */
  admin = null;
  /** Why they are not allowed: a part of a sentence, or "". */
  why = "";
  #key = "";

  constructor() {
    super();
    try {
      this.#key = sessionStorage.getItem(PLACE) ?? "";
    } catch {
      // Without storage the key lives as long as the page.
    }
  }

  /** Whether there is a key to forget. */
  get signedIn() {
    return this.#key !== "";
  }

  /** The headers that say who asks. */
  get headers() {
    return this.#key ? { Authorization: `Bearer ${this.#key}` } : {};
  }

  /** Use this key from now on. */
  signIn(key) {
    this.#keep(key);
    this.state = "open";
    this.complaint = "";
    this.admin = null;
    this.why = "";
    this.changed();
  }

  /** Forget the key, and ask for one. */
  signOut(complaint = "") {
    this.#keep("");
    this.state = "asked";
    this.complaint = complaint;
    this.admin = null;
    this.why = "";
    this.changed();
  }

  /** The gateway has answered 401 to a request with these headers: nothing new where another key is used meanwhile. */
  refused({ Authorization: used }) {
    if (this.state === "asked" || used !== this.headers.Authorization) return;
    this.signOut(this.#key ? "The gateway does not take that key (any more)." : "");
  }

  /** The gateway has let this caller do what only admins may, or has not: `why` not. */
  learned(admin, why = "") {
    if (this.admin === admin && this.why === why) return;
    this.admin = admin;
    this.why = why;
    this.changed();
  }

  #keep(key) {
    this.#key = key;
    try {
      if (key) sessionStorage.setItem(PLACE, key);
      else sessionStorage.removeItem(PLACE);
    } catch {
      // As above.
    }
  }
}
