// The page begins here.
import { App } from "./app.js";
import { Gateway } from "./gateway.js";
import { h, render } from "./html.js";

const place = document.getElementById("console");
// With a slash at its end, so that paths are below it and not beside it.
const base = new URL(`${place.dataset.base.replace(/\/+$/, "")}/`, document.baseURI).href;
const gateway = new Gateway(base, place.dataset.title);
place.replaceChildren();
render(h(App, { gateway }), place);
gateway.open();
