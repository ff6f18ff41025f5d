// Before the first paint: which view, and how large the text. A classic script, so that nothing is drawn before it.

document.documentElement.dataset.view =
  new URLSearchParams(location.search).get("view") === "overlay" ? "overlay" : "page";
try {
  document.documentElement.style.setProperty("--size", localStorage.getItem("speechbridge.size") ?? "1");
} catch {
  // No storage is allowed here: the text has its usual size.
}
