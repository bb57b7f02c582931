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

  /** One request; the response where it succeeded. `patience`: milliseconds until the answer begins, 0 for any. */
  async request(method, path, { body, headers = {}, signal, accept = "application/json", patience = PATIENCE } = {}) {
    const controller = new AbortController();
    const giveUp = () => controller.abort(signal.reason);
    if (signal?.aborted) giveUp();
    signal?.addEventListener("abort", giveUp);
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
    return read(await this.request("GET", path, options));
  }

  /** The JSON that answers a `POST`; null where there is none. */
  async post(path, body = {}, options = {}) {
    return read(await this.request("POST", path, { body, ...options }));
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
