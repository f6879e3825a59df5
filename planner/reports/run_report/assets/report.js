// Draws each figure in the theme of the reader; on paper always in the light one.
const figures = JSON.parse(document.getElementById("figures").textContent);
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

function draw(chosen) {
  document.documentElement.dataset.theme = chosen;
  for (const place of places) {
    const { data, layout } = figures[place.dataset.figure][chosen];
    Plotly.react(place, data, { ...layout, autosize: true }, config);
  }
}

function choose(chosen) {
  theme = chosen;
  draw(theme);
}

document.getElementById("theme").addEventListener("click", () => choose(theme === "dark" ? "light" : "dark"));
dark.addEventListener("change", (event) => choose(event.matches ? "dark" : "light"));
window.addEventListener("beforeprint", () => draw("light"));
window.addEventListener("afterprint", () => draw(theme));
draw(theme);
