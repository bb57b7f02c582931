// Dialogs: asks whoever looks at the page before something is done. One at a time, in the browser's own modal dialog.
import { html, useEffect, useRef, useState } from "./html.js";
import { Observable, useObservable } from "./observable.js";

export class Dialogs extends Observable {
  /** What is asked now: `{question, resolve}`, or null. */
  current = null;

  /**
   * Ask. Resolves to `{reason}`, or to null where the answer is no.
   * `question`: `title`, `text` (a sentence or what html`` makes), `action` (the word on the button), `danger`, `reason` (whether to ask
   * for one: true, or "required").
   */
  confirm(question) {
    this.current?.resolve(null);
    return new Promise((resolve) => {
      this.current = { question, resolve };
      this.changed();
    });
  }

  answer(answer) {
    this.current?.resolve(answer);
    this.current = null;
    this.changed();
  }
}

/** A component: the place where dialogs appear. */
export function DialogHost({ dialogs }) {
  useObservable(dialogs);
  return dialogs.current ? html`<${ConfirmDialog} key=${dialogs.current} current=${dialogs.current} dialogs=${dialogs} />` : null;
}

function ConfirmDialog({ current, dialogs }) {
  const { title, text, action, danger, reason } = current.question;
  const dialog = useRef(null);
  const [given, setGiven] = useState("");
  useEffect(() => {
    const back = document.activeElement;
    dialog.current.showModal();
    return () => back instanceof HTMLElement && back.isConnected && back.focus();
  }, []);
  const answer = (event) => {
    event.preventDefault();
    dialogs.answer({ reason: given.trim() });
  };
  return html`<dialog ref=${dialog} class="dialog" aria-labelledby="dialog-title" onClose=${() => dialogs.answer(null)}>
    <form onSubmit=${answer}>
      <h2 id="dialog-title">${title}</h2>
      <div class="dialog-text">${text}</div>
      ${reason &&
      html`<label class="field">
        <span>Reason ${reason === "required" ? "" : html`<small>(optional, kept in the audit)</small>`}</span>
        <input name="reason" maxlength="500" autocomplete="off" required=${reason === "required"} value=${given}
          onInput=${(event) => setGiven(event.target.value)} />
      </label>`}
      <div class="dialog-buttons">
        <button type="button" class="button" onClick=${() => dialogs.answer(null)}>Cancel</button>
        <button type="submit" class=${danger ? "button danger" : "button primary"}>${action}</button>
      </div>
    </form>
  </dialog>`;
}
