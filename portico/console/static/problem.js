// Problem: why a request failed, as a sentence for people. Of an answer of the gateway (RFC 9457), or of no answer at all.

export class Problem extends Error {
  /** What went wrong: `detail`, or what the status alone tells. */
  constructor({ status = 0, slug = "", title = "", detail = "", errors = [], requestId = "", runId = "", retryAfter = 0, body = null }) {
    super(detail || title || (status ? `The gateway answered ${status}.` : "The gateway did not answer."));
    this.name = "Problem";
    this.status = status;
    this.slug = slug;
    this.title = title;
    this.detail = detail;
    /** The faults of what was sent: `{pointer, detail}` each. */
    this.errors = errors;
    this.requestId = requestId;
    this.runId = runId;
    /** Seconds. */
    this.retryAfter = retryAfter;
    /** The whole document. */
    this.body = body;
  }

  /** Of an answer that is none of success. */
  static async of(response) {
    let body = null;
    try {
      body = JSON.parse(await response.text());
    } catch {
      // A proxy's page, say: the status has to do.
    }
    const said = body && typeof body === "object" && !Array.isArray(body) ? body : {};
    return new Problem({
      status: response.status,
      slug: String(said.type ?? "").split("/").pop(),
      title: text(said.title),
      detail: text(said.detail),
      errors: Array.isArray(said.errors) ? said.errors : [],
      requestId: text(said.request_id) || response.headers.get("x-request-id") || "",
      runId: text(said.run_id),
      retryAfter: Number(response.headers.get("retry-after")) || 0,
      body: said,
    });
  }

  /** Of an error that `fetch` has thrown. */
  static from(error) {
    if (error instanceof Problem) return error;
    if (error?.name === "TimeoutError") return new Problem({ slug: "no-answer", detail: "The gateway did not answer in time." });
    if (error?.name === "AbortError") return new Problem({ slug: "given-up", detail: "Given up." });
    return new Problem({ slug: "unreachable", detail: "The gateway cannot be reached." });
  }
}

/**
 * Whether a request was refused since whoever asks is no admin: a part of a sentence that says why, or "". Where the gateway knows its
 * callers that is a 403; where it knows none, what is not for those on other machines does not exist for them.
 */
export function notAdmin({ status, slug }) {
  if (status === 403) return 'this key has no scope "admin"';
  if (status === 404 && slug === "not-found") return "without authentication more is for the gateway's own machine alone";
  return "";
}

function text(value) {
  return typeof value === "string" ? value : "";
}
