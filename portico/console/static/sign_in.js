// SignIn: asks for the key where the gateway wants one.
import { useGateway } from "./gateway.js";
import { html, useEffect, useRef } from "./html.js";
import { useObservable } from "./observable.js";

export function SignIn() {
  const gateway = useGateway();
  useObservable(gateway.session);
  const input = useRef(null);
  useEffect(() => input.current.focus(), []);
  const { complaint } = gateway.session;
  const submit = (event) => {
    event.preventDefault();
    const key = input.current.value.trim();
    if (key) gateway.signIn(key);
  };
  return html`<main id="main" class="sign-in" tabindex="-1">
    <form onSubmit=${submit}>
      <h1>Sign in</h1>
      <p class="muted">This gateway wants a key or a token. To watch and to act, it needs the scope <code>admin</code>.</p>
      ${complaint && html`<p class="complaint" role="alert" id="sign-in-complaint">${complaint}</p>`}
      <label class="field"><span>Key or token</span>
        <input ref=${input} type="password" name="key" autocomplete="off" required spellcheck="false"
          aria-invalid=${complaint ? "true" : undefined} aria-describedby=${complaint ? "sign-in-complaint" : undefined} />
      </label>
      <button type="submit" class="button primary">Continue</button>
      <p><small>It is kept in this tab alone, until you sign out or close it.</small></p>
    </form>
  </main>`;
}
