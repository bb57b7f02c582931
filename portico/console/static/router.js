// Router: which view is shown, by the address's fragment: `#/runs/{id}?status=failed`. So an address can be shared.
import { Observable } from "./observable.js";

export class Router extends Observable {
  /** `path`: its segments, decoded · `query`: its parameters. */
  route = parsed(location.hash);
  /** The route before it, or null. */
  before = null;

  constructor() {
    super();
    addEventListener("hashchange", () => {
      this.before = this.route;
      this.route = parsed(location.hash);
      this.changed();
    });
  }

  /** Go somewhere. `replace`: without a step in the history, as filters do. */
  go(address, { replace = false } = {}) {
    if (address === location.hash) return;
    if (replace) {
      history.replaceState(null, "", address);
      this.route = parsed(address);
      this.changed();
    } else {
      location.hash = address;
    }
  }
}

/** The address of a view: `href(["runs", id], {status: "failed"})`. What is empty is left out. */
export function href(segments, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  const search = new URLSearchParams(given.map(([name, value]) => [name, String(value)])).toString();
  return `#/${segments.map(encodeURIComponent).join("/")}${search ? `?${search}` : ""}`;
}

function parsed(hash) {
  const [before, search = ""] = hash.replace(/^#\/?/, "").split(/\?(.*)/s);
  return { path: before.split("/").filter(Boolean).map(decoded), query: new URLSearchParams(search) };
}

function decoded(segment) {
  try {
    return decodeURIComponent(segment);
  } catch {
    return segment;
  }
}
