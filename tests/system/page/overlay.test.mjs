import assert from "node:assert/strict";
import { test } from "node:test";

import { keyIn, overlayOptions, withoutKey } from "../../../app/speechbridge/server/static/overlay.mjs";

test("an overlay has defaults, and every one of them can be changed in its address", () => {
  assert.deepEqual(overlayOptions("?view=overlay"), {
    lines: 2,
    size: 1,
    fade: 6,
    font: "sans",
    position: "bottom",
    align: "center",
    color: "#ffffff",
    background: "#0a0c10c7",
    source: "",
    language: "",
  });
  const all =
    "?lines=4&size=1.5&fade=0&font=serif&position=top&align=left&color=fd0&background=00000000" +
    "&source=USB%20Mic&language=es";
  assert.deepEqual(overlayOptions(all), {
    lines: 4,
    size: 1.5,
    fade: 0,
    font: "serif",
    position: "top",
    align: "left",
    color: "#fd0",
    background: "#00000000",
    source: "USB Mic",
    language: "es",
  });
});

test("what makes no sense is replaced by the default, and numbers are limited", () => {
  const odd = overlayOptions("?lines=x&size=1e9&font=comic&position=&color=red;}&background=%23fff&fade=-3");
  assert.deepEqual(
    [odd.lines, odd.size, odd.font, odd.position, odd.color, odd.background, odd.fade],
    [2, 5, "sans", "bottom", "#ffffff", "#0a0c10c7", 0],
  );
});

test("a key is taken from the fragment, which no server sees", () => {
  assert.equal(keyIn("#key=abc"), "abc");
  assert.equal(keyIn("#a=1&key=x%2Dy"), "x-y");
  assert.equal(keyIn(""), "");
  assert.equal(withoutKey("#key=abc"), "");
  assert.equal(withoutKey("#a=1&key=abc"), "#a=1");
});
