// TryAsk: a place to try what an agent can be asked.
import { html } from "./html.js";

export function TryAsk() {
  return html``;
}
