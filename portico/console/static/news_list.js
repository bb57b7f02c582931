// NewsList: what happened to processes lately, the newest first. Of one process, or of all.
import { clockTime, instant } from "./format.js";
import { useGateway } from "./gateway.js";
import { html } from "./html.js";
import { useObservable } from "./observable.js";
import { href } from "./router.js";
import { Name, short } from "./text.js";

export function NewsList({ name, limit = 30 }) {
  const { news } = useGateway();
  useObservable(news);
  const shown = (name === undefined ? news.list : news.list.filter((one) => one.name === name)).slice(-limit).reverse();
  if (!shown.length) return html`<p class="muted">Nothing since this page was opened.</p>`;
  return html`<ul class="news">
    ${shown.map(
      (one) => html`<li key=${one.number} data-weight=${one.weight}>
        <time title=${instant(one.at)}>${clockTime(one.at)}</time>
        <span>${name === undefined && one.name && html`<a href=${href(["tree", one.name])}><${Name} value=${one.name} limit=${80} /></a>${" "}`}${short(one.text, 300)}</span>
      </li>`,
    )}
  </ul>`;
}
