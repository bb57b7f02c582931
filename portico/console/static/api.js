// Api: requests to the gateway's public API, with the session's key. What fails is a Problem.
import { Problem } from "./problem.js";

/** Milliseconds that a request may take, where nothing else is said. */
const PATIENCE = 30_000;

export class Api {
  #session;

  /** `base`: the URL of the gateway's root. */
  constructor(base, session) {
    this.base = base;
    this.#session = session;
  }

  /** The URL of a path of the gateway. Segments that are data must be encoded by `path`. */
  url(path) {
    return new URL(`./${path.replace(/^\/+/, "")}`, this.base).href; // below the base, whatever it begins with
  }

  /**
   * One request; the response where it succeeded. `patience`: milliseconds until the answer begins, 0 for any. With `signal` it is given
   * up, also while the response is read: so a signal for it should end with it, not outlive many of them.
   */
  async request(method, path, options) {
    return (await this.#ask(method, path, options)).response;
  }

  /** A request, and `done()`, to be called when the response is read: its signal has nothing to do with it any more. */
  async #ask(method, path, { signal, ...options } = {}) {
    const controller = new AbortController();
    const giveUp = () => controller.abort(signal.reason);
    const done = () => signal?.removeEventListener("abort", giveUp);
    if (signal?.aborted) giveUp();
    signal?.addEventListener("abort", giveUp);
    try {
      return { response: await this.#send(method, path, options, controller), done };
    } catch (error) {
      done();
      throw error;
    }
  }

  async #send(method, path, { body, headers = {}, accept = "application/json", patience = PATIENCE }, controller) {
    const timer = patience && setTimeout(() => controller.abort(new DOMException("no answer", "TimeoutError")), patience);
    const sent = { Accept: accept, ...this.#session.headers, ...headers };
    const json = body !== undefined && !(body instanceof FormData) && !(body instanceof Blob) && !("Content-Type" in headers);
    if (json) sent["Content-Type"] = "application/json";
    let response;
    try {
      response = await fetch(this.url(path), {
        method,
        headers: sent,
        body: json ? JSON.stringify(body) : body,
        signal: controller.signal,
        credentials: "same-origin",
        cache: "no-store",
      });
    } catch (error) {
      throw Problem.from(error);
    } finally {
      clearTimeout(timer); // once the answer has begun it may take its time: it may be a stream
    }
    if (response.ok) return response;
    if (response.status === 401) this.#session.refused(sent);
    throw await Problem.of(response);
  }

  /** The JSON of a `GET`. */
  async get(path, options) {
    return this.#read("GET", path, options);
  }

  /** The JSON that answers a `POST`; null where there is none. */
  async post(path, body = {}, options = {}) {
    return this.#read("POST", path, { body, ...options });
  }

  async #read(method, path, options) {
    const { response, done } = await this.#ask(method, path, options);
    try {
      return await read(response);
    } finally {
      done();
    }
  }
}

/** A path of segments that are data: `path("agents", name, "restart")`. */
export function path(...segments) {
  return segments.map(encodeURIComponent).join("/");
}

async function read(response) {
  try {
    const text = await response.text();
    return text ? JSON.parse(text) : null;
  } catch (error) {
    throw error instanceof SyntaxError ? new Problem({ status: response.status, detail: "The answer is no JSON." }) : Problem.from(error);
  }
}
