// Asks the browser for what a form's `data-passkey` says and sends the answer with the form. Where a browser cannot, the
// form stays hidden, and what stands beside it (`data-without`) is read instead: everything else works without this script.
"use strict";

const decoders = {
  get: (told) => PublicKeyCredential.parseRequestOptionsFromJSON(told),
  create: (told) => PublicKeyCredential.parseCreationOptionsFromJSON(told),
};

async function answer(form) {
  const publicKey = decoders[form.dataset.way](JSON.parse(form.dataset.passkey));
  return JSON.stringify(await navigator.credentials[form.dataset.way]({ publicKey }));
}

async function send(form) {
  const button = form.querySelector("button");
  const problem = form.querySelector("[role=alert]");
  button.disabled = true;
  problem.hidden = true;
  try {
    form.elements.passkey.value = await answer(form);
    form.submit();
  } catch {
    problem.hidden = false; // refused, timed out, or none on this device: browsers do not tell which
    button.disabled = false;
  }
}

if (self.PublicKeyCredential?.parseCreationOptionsFromJSON) {
  for (const form of document.querySelectorAll("form[data-passkey]")) {
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      send(form);
    });
    form.hidden = false;
  }
  for (const told of document.querySelectorAll("[data-without]")) told.hidden = true;
}
