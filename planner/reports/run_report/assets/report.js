// Draws each figure in the theme of the reader; on paper always in the light one.
const figures = JSON.parse(document.getElementById("figures").textContent);
const PAPER_WIDTH = 680; // pixels between the margins of A4 and Letter
const places = [...document.querySelectorAll("[data-figure]")];
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const config = {
  responsive: true,
  displaylogo: false,
  showSendToCloud: false, // nothing leaves this machine
  plotlyServerURL: "",
  modeBarButtons: [["zoom2d", "pan2d", "zoomIn2d", "zoomOut2d", "resetScale2d", "toImage"]],
};
let theme = dark.matches ? "dark" : "light";

// Returns a value with what is other in it, by names and places.
function changed(value, change) {
  if (change === null || typeof change !== "object" || Array.isArray(change)) return change;
  const copy = Array.isArray(value) ? [...value] : { ...value };
  for (const [name, other] of Object.entries(change)) copy[name] = changed(copy[name], other);
  return copy;
}

function figure(name, chosen) {
  const { light, dark } = figures[name];
  return chosen === "light" ? light : changed(light, dark);
}

function draw(chosen, width) {
  document.documentElement.dataset.theme = chosen;
  for (const place of places) {
    const { data, layout } = figure(place.dataset.figure, chosen);
    Plotly.react(place, data, { ...layout, autosize: !width, width }, config);
  }
}

function choose(chosen) {
  theme = chosen;
  draw(theme);
}

document.getElementById("theme").addEventListener("click", () => choose(theme === "dark" ? "light" : "dark"));
dark.addEventListener("change", (event) => choose(event.matches ? "dark" : "light"));
window.addEventListener("beforeprint", () => draw("light", PAPER_WIDTH));
window.addEventListener("afterprint", () => draw(theme));
draw(theme);
