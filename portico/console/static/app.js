// App: the frame around every view: header, navigation, what is wrong with the connection, notices, dialogs.
import { Boundary } from "./boundary.js";
import { DialogHost } from "./dialogs.js";
import { GatewayContext, useGateway } from "./gateway.js";
import { html, useLayoutEffect, useRef } from "./html.js";
import { Icon } from "./icon.js";
import { useObservable } from "./observable.js";
import { notAdmin } from "./problem.js";
import { href } from "./router.js";
import { SignIn } from "./sign_in.js";
import { Name, short, visible } from "./text.js";
import { THEMES } from "./theme.js";
import { useTick } from "./tick.js";
import { VIEWS } from "./views.js";

export function App({ gateway }) {
  return html`<${GatewayContext.Provider} value=${gateway}><${Frame} /><//>`;
}

function Frame() {
  const gateway = useGateway();
  useObservable(gateway.session);
  const asked = gateway.session.state === "asked";
  const toMain = (event) => {
    event.preventDefault(); // the fragment is the view's
    document.getElementById("main").focus();
  };
  return html`<div class="frame">
    <a class="skip" href="#main" onClick=${toMain}>Skip to content</a>
    <${Header} />
    ${asked ? html`<${SignIn} />` : html`<${Banner} /><${Navigation} /><${Main} />`}
    <${Notices} />
    <${DialogHost} dialogs=${gateway.dialogs} />
  </div>`;
}

function Header() {
  const gateway = useGateway();
  const { session, theme } = gateway;
  useObservable(session);
  useObservable(theme);
  return html`<header class="top">
    <div class="brand">
      <img src=${new URL("portico.svg", import.meta.url).href} alt="" width="24" height="24" />
      <${Name} value=${gateway.title} limit=${60} /><small>Console</small>
    </div>
    <div class="top-end">
      ${session.state !== "asked" && html`<${ReadinessChip} /><${ConnectionChip} />`}
      <label class="theme"><span>Theme</span>
        <select value=${theme.choice} onChange=${(event) => theme.choose(event.target.value)}>
          ${THEMES.map((one) => html`<option value=${one} selected=${one === theme.choice}>${one[0].toUpperCase() + one.slice(1)}</option>`)}
        </select>
      </label>
      ${session.signedIn && html`<button type="button" class="button" onClick=${() => session.signOut()}>Sign out</button>`}
    </div>
  </header>`;
}

const READY = { ready: ["good", "Ready"], unready: ["bad", "Not ready"], unreachable: ["bad", "Unreachable"] };

function ReadinessChip() {
  const { readiness } = useGateway();
  useObservable(readiness);
  const [tone, word] = READY[readiness.state] ?? ["plain", "…"];
  const draining = readiness.document?.draining ? " (draining)" : "";
  return html`<span class="chip" data-tone=${tone} title="What /readyz says"><span class="dot"></span>${word}<span class="chip-more">${draining}</span></span>`;
}

const CONNECTION = {
  connecting: ["warn", "Connecting"],
  live: ["good", "Live"],
  waiting: ["bad", "Offline"],
  paused: ["warn", "Paused"],
  refused: ["warn", "Not live"],
  closed: ["plain", "Closed"],
};

function ConnectionChip() {
  const { stream, clock } = useGateway();
  useObservable(stream);
  useObservable(clock);
  const [tone, word] = CONNECTION[stream.state];
  const skew = Math.abs(clock.skew) > 5000 ? ` This machine's clock differs by ${Math.round(clock.skew / 1000)} s.` : "";
  return html`<span class="chip" data-tone=${tone} data-connection=${stream.state} title=${`The stream of events.${skew}`}><span class="dot"></span>${word}</span>`;
}

/** What is wrong with the connection, and what that means. */
function Banner() {
  const { stream, tree } = useGateway();
  useObservable(stream);
  const now = useTick(stream.state === "waiting");
  let text = "";
  if (stream.state === "waiting" && stream.problem?.slug !== "ended") {
    const seconds = Math.max(0, Math.ceil((stream.retryAt - now) / 1000));
    text = html`${short(stream.problem.message, 300)} What is shown may be out of date. <span aria-hidden="true">Next try in ${seconds} s.</span>`;
  } else if (stream.state === "refused") {
    const why = notAdmin(stream.problem);
    text = why
      ? `The page is not live, and what is done to agents is refused: ${why}. Tree, runs and what waits are read every ten seconds.`
      : `The stream of events is not to be had (${stream.problem.status}): ${short(stream.problem.message, 300)} Tree, runs and what waits are read every ten seconds.`;
  }
  if (!text) return null;
  const retry = () => {
    stream.open();
    tree.readSoon();
  };
  return html`<div class="banner" role="status" data-tone=${stream.state === "waiting" ? "bad" : "warn"}>
    <span>${text}</span><button type="button" class="link" onClick=${retry}>Try now</button>
  </div>`;
}

function Navigation() {
  const gateway = useGateway();
  useObservable(gateway.router);
  const here = gateway.router.route.path[0] ?? VIEWS[0].path;
  const list = useRef(null);
  // On a phone the views stand in a line that is longer than the screen. Not `scrollIntoView`: Tab would begin there, behind the skip link.
  useLayoutEffect(() => {
    const link = list.current.querySelector("[aria-current]");
    const box = list.current.parentElement;
    if (link) box.scrollLeft = link.offsetLeft - box.offsetLeft - (box.clientWidth - link.offsetWidth) / 2;
  }, [here]);
  return html`<nav class="nav" aria-label="Views">
    <ul ref=${list}>
      ${VIEWS.map(
        (view) => html`<li key=${view.path}>
          <a href=${href([view.path])} aria-current=${view.path === here ? "page" : undefined}>
            <${Icon} name=${view.icon} /><span>${view.title}</span>${view.badge && html`<${view.badge} />`}
          </a>
        </li>`,
      )}
    </ul>
  </nav>`;
}

function Main() {
  const { router, title } = useGateway();
  useObservable(router);
  const main = useRef(null);
  const first = useRef(true);
  const { route } = router;
  const view = VIEWS.find((one) => one.path === (route.path[0] ?? VIEWS[0].path));
  useLayoutEffect(() => {
    document.title = `${view ? view.title : "Not found"} · ${visible(title)}`;
    if (first.current) first.current = false;
    else main.current.focus({ preventScroll: true });
  }, [view]);
  return html`<main id="main" class="main" tabindex="-1" ref=${main}>
    ${
      view
        ? html`<${Boundary} key=${view.path} place=${route.path.join("/")}><${view.component} route=${route} /><//>`
        : html`<div class="empty"><h1>There is no such view</h1><a href=${href([VIEWS[0].path])}>Go to the tree</a></div>`
    }
  </main>`;
}

function Notices() {
  const { announcer } = useGateway();
  useObservable(announcer);
  return html`<div class="visually-hidden" role="status" aria-live="polite" id="spoken">${visible(announcer.spoken)}</div>
    <div class="notices">
      ${announcer.notices.map(
        (one) => html`<div class="notice" data-kind=${one.kind} key=${one.id}>
          <p>${short(one.text, 600)}</p>
          <button type="button" class="icon-button" aria-label="Dismiss" onClick=${() => announcer.dismiss(one.id)}><${Icon} name="close" /></button>
        </div>`,
      )}
    </div>`;
}
