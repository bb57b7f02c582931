// Starts Swagger UI or ReDoc on the page that loads it. An external file, so that the page needs no inline script.
"use strict";

(function () {
  const place = document.getElementById("docs");
  const form = document.getElementById("key-form");
  const address = new URL(place.dataset.openapi, document.baseURI);
  const start = { swagger: startSwagger, redoc: startRedoc }[place.dataset.viewer];

  // The key stays in this page's memory: it is not stored, and it is gone when the page is.
  async function load(key) {
    const headers = { Accept: "application/json" };
    if (key) headers.Authorization = "Bearer " + key;
    const response = await fetch(address, { headers, credentials: "same-origin" });
    if (response.status === 401) return askForKey(key ? "That key is not the right one." : "");
    if (!response.ok) throw new Error("The gateway answered " + response.status + " for its OpenAPI document.");
    const description = await response.json();
    // Behind a prefix (a mount, a proxy) the routes are where the document is, and not where this page is.
    const servers = description.servers || [{ url: "." }];
    description.servers = servers.map((one) => ({ ...one, url: new URL(one.url, address).href.replace(/\/$/, "") }));
    form.hidden = true;
    start(description, key);
  }

  function askForKey(complaint) {
    form.hidden = false;
    form.querySelector("output").value = complaint;
    form.elements.key.focus();
  }

  function startSwagger(description, key) {
    const ui = SwaggerUIBundle({
      spec: description,
      domNode: place,
      deepLinking: true,
      displayRequestDuration: true,
      tryItOutEnabled: true,
      defaultModelsExpandDepth: 0,
      validatorUrl: null,
      presets: [SwaggerUIBundle.presets.apis],
      layout: "BaseLayout",
      onComplete: () => key && ui.preauthorizeApiKey("bearer", key),
    });
  }

  function startRedoc(description) {
    Redoc.init(description, { hideDownloadButton: true, nativeScrollbars: true }, place);
  }

  function report(error) {
    place.textContent = String(error.message || error);
    place.className = "failed";
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    load(form.elements.key.value.trim()).catch(report);
  });
  load("").catch(report);
})();
