// Sets the view and the text size before the first paint: a classic script blocks rendering, a module does not.

document.documentElement.dataset.view =
  new URLSearchParams(location.search).get("view") === "overlay" ? "overlay" : "page";
try {
  document.documentElement.style.setProperty("--size", localStorage.getItem("speechbridge.size") ?? "1");
} catch {
  // Storage is blocked: the text has its default size.
}
