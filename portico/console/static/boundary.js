// Boundary: what is below it may fail to be drawn. Then it says so, and the rest of the page goes on.
import { Component, html } from "./html.js";
import { short } from "./text.js";

/** `place`: where the page is; what failed at one may be drawn at another. */
export class Boundary extends Component {
  state = { error: null };

  componentDidCatch(error) {
    console.error(error);
    this.setState({ error });
  }

  componentWillReceiveProps({ place }) {
    if (place !== this.props.place) this.setState({ error: null });
  }

  render({ children }, { error }) {
    if (error === null) return children;
    return html`<div class="view"><div class="view-body"><div class="complaint" role="alert">
      <p>This view cannot be drawn, which is a fault of the page: ${short(String(error?.message ?? error), 300)}</p>
      <button type="button" class="button" onClick=${() => this.setState({ error: null })}>Try again</button>
    </div></div></div>`;
  }
}
