/* lead-intake: sends every <form data-lead-intake> of the page without leaving it.
 *
 *   <script src="https://leads.example.com/form.js" defer></script>
 *   <form data-lead-intake="contact"> … inputs … <output></output></form>
 *
 * A lead that could not be sent is sent again with the same key, so it can never arrive twice. The form
 * gets the class is-sending, is-sent or is-refused, and the events lead-intake:sent and lead-intake:refused;
 * its <output>, if it has one, shows what happened. */
(function () {
  "use strict";
  var origin = new URL(document.currentScript.src).origin;
  var KNOWN = ["email", "name", "phone"];
  var WAITS = [1000, 2000, 5000, 10000, 20000, 30000];

  function source() {
    /* A frame that was made by a script (about:srcdoc) has its parent's base. */
    var source = { url: /^https?:/.test(location.href) ? location.href : document.baseURI };
    if (document.referrer) source.referrer = document.referrer;
    new URLSearchParams(location.search).forEach(function (value, name) {
      if (/^(utm_\w+|gclid|fbclid|msclkid)$/.test(name) && value) source[name] = value;
    });
    /* The cookie of HubSpot's own script, if the website has it: ties the lead to the visit. */
    var hutk = /(?:^|; )hubspotutk=([0-9a-f]+)/.exec(document.cookie);
    if (hutk) source.hutk = hutk[1];
    return source;
  }

  function read(form) {
    var lead = {
      form_name: form.dataset.leadIntake || form.getAttribute("name") || "contact",
      source: source(),
      submitted_at: new Date().toISOString(),
      timezone: Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC",
      consent_given: false,
      form_data: Object.create(null),
    };
    new FormData(form).forEach(function (value, name) {
      if (typeof value !== "string") return;
      if (name === "consent_given") lead.consent_given = lead.consent_given || !/^(|0|no|off|false)$/i.test(value);
      else if (name === "form_name") lead.form_name = value;
      else if (KNOWN.indexOf(name) >= 0) { if (value) lead[name] = value; }
      else if (name in lead.form_data) lead.form_data[name] = [].concat(lead.form_data[name], value);
      else lead.form_data[name] = value;
    });
    return lead;
  }

  function key() {
    if (window.crypto && crypto.randomUUID) return crypto.randomUUID();
    return Date.now().toString(36) + "-" + Math.random().toString(36).slice(2) + Math.random().toString(36).slice(2);
  }

  function pause(milliseconds) {
    return new Promise(function (done) { setTimeout(done, milliseconds); });
  }

  async function send(body, id) {
    for (var tries = 0; ; tries++) {
      var answer = null;
      try {
        answer = await fetch(origin + "/api/submit", {
          method: "POST", body: body, keepalive: body.length < 60000,
          headers: { "Content-Type": "application/json", "Idempotency-Key": id },
        });
      } catch (lost) { /* no connection: tried again */ }
      if (answer && answer.status !== 408 && answer.status !== 429 && answer.status < 500) {
        return answer.json().catch(function () {
          return { success: false, errors: { formErrors: ["This could not be sent (" + answer.status + ")."], fieldErrors: {} } };
        });
      }
      if (tries === WAITS.length) {
        return { success: false, errors: { formErrors: ["This could not be sent. Please try again in a few minutes."], fieldErrors: {} } };
      }
      var asked = answer ? Number(answer.headers.get("Retry-After")) * 1000 : 0;
      await pause(Math.max(WAITS[tries], asked || 0) * (1 + Math.random() / 4));
    }
  }

  function show(form, state, text) {
    ["sending", "sent", "refused"].forEach(function (it) { form.classList.toggle("is-" + it, it === state); });
    var output = form.querySelector("output");
    if (output) output.textContent = text;
  }

  function mark(form, errors) {
    Array.prototype.forEach.call(form.elements, function (input) {
      var wrong = [input.name, "form_data." + input.name].some(function (name) {
        return Object.prototype.hasOwnProperty.call(errors.fieldErrors, name);
      });
      if (wrong) input.setAttribute("aria-invalid", "true");
      else input.removeAttribute("aria-invalid");
    });
    return errors.formErrors.concat(Object.keys(errors.fieldErrors).map(function (name) {
      return name.replace(/^.*\./, "").replace(/_/g, " ") + ": " + errors.fieldErrors[name].join(" ");
    })).join("\n");
  }

  document.addEventListener("submit", async function (event) {
    var form = event.target;
    if (!form.matches("form[data-lead-intake]")) return;
    event.preventDefault();
    if (form.classList.contains("is-sending")) return;
    var lead = read(form);
    /* The same content keeps its key, even when the visitor presses the button again. */
    var content = JSON.stringify([lead.form_name, lead.email, lead.name, lead.phone, lead.form_data, lead.consent_given]);
    if (form.leadIntake === undefined || form.leadIntake.content !== content) {
      form.leadIntake = { content: content, key: key(), body: JSON.stringify(lead) };
    }
    show(form, "sending", "Sending…");
    var answer = await send(form.leadIntake.body, form.leadIntake.key);
    if (!answer.success && "timezone" in answer.errors.fieldErrors) {
      /* A zone that the browser knows and the server does not: no visitor can mend that. All our times are UTC. */
      lead.timezone = "UTC";
      form.leadIntake.body = JSON.stringify(lead);
      answer = await send(form.leadIntake.body, form.leadIntake.key);
    }
    if (answer.success) {
      delete form.leadIntake;
      mark(form, { formErrors: [], fieldErrors: {} });
      /* A field named reset would stand in the method's place. */
      HTMLFormElement.prototype.reset.call(form);
      show(form, "sent", "Thank you. We have received your message.");
      form.dispatchEvent(new CustomEvent("lead-intake:sent", { bubbles: true, detail: answer }));
    } else {
      show(form, "refused", mark(form, answer.errors));
      form.dispatchEvent(new CustomEvent("lead-intake:refused", { bubbles: true, detail: answer.errors }));
    }
  });
})();
