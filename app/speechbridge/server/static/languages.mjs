// The choice of the language, if the speech service has several.

import { remember, remembered } from "./remembered.mjs";

const $ = (id) => document.getElementById(id);

/** List the languages that the service offers. The first is the default. With one language there is no list. */
export async function listLanguages() {
  const { languages } = await read();
  if (languages.length < 2) return;
  $("language").replaceChildren(...languages.map((code) => new Option(nameOf(code), code)));
  $("language").value = remembered("language") ?? languages[0];
  if (!$("language").value) $("language").value = languages[0];
  $("language-choice").hidden = false;
}

$("language").addEventListener("change", ({ target }) => remember("language", target.value));

/** The chosen language; empty if there is no choice. */
export function language() {
  return $("language").value;
}

/** The options of the service; none if it cannot be reached. */
async function read() {
  for (let pause = 250; pause < 2_000; pause *= 2) {
    try {
      return await (await fetch("static/options.json")).json();
    } catch {
      await new Promise((done) => setTimeout(done, pause));
    }
  }
  return { languages: [] };
}

function nameOf(code) {
  try {
    return new Intl.DisplayNames([code, "en"], { type: "language" }).of(code);
  } catch {
    return code; // it is not a language code
  }
}
