// Theme: light, dark, or as the system has it. Kept in this browser.
import { Observable } from "./observable.js";

const PLACE = "portico.theme";
export const THEMES = ["system", "light", "dark"];

export class Theme extends Observable {
  choice = document.documentElement.dataset.theme ?? "system";

  constructor() {
    super();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.changed());
  }

  /** Whether what is shown is dark. */
  get dark() {
    return this.choice === "dark" || (this.choice === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  }

  choose(choice) {
    this.choice = choice;
    if (choice === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = choice;
    try {
      localStorage.setItem(PLACE, choice);
    } catch {
      // Without storage the choice lasts as long as the page.
    }
    this.changed();
  }
}
